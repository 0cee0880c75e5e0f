// A key becomes a session; it is kept nowhere else.

import { Problem, change } from "./api.js";

const form = document.querySelector("[data-login]");
const refused = form.querySelector("[data-refused]");

// Only a path of this server: an address elsewhere would send whoever logs in to it.
const next = () => (/^\/(?![/\\])[^\u0000-\u001f\\]*$/.test(form.dataset.next) ? form.dataset.next : "/");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  refused.hidden = true;
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    await change("POST", "/sessions", { key: form.elements.key.value.trim() });
    location.assign(next());
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    const words = { 401: "This key is not known, or it has ended.", 429: "Too many tries. Wait a minute." };
    refused.textContent = words[error.status] ?? `${error.message} ${error.hint}`;
    refused.hidden = false;
    form.elements.key.select();
  } finally {
    button.disabled = false;
  }
});
