// What every page does: keys, theme, freshness, long code, leaving.

import { Problem, change, count, duration, get, pageUrl, tell } from "./api.js";

const typing = (target) => target instanceof HTMLElement && target.matches("input, textarea, select, [contenteditable]");

// Light and dark

function switchTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("theme", next);
  } catch {
    return; // it holds for this page then
  }
}
document.querySelector("[data-theme-switch]")?.addEventListener("click", switchTheme);

// Menu of a narrow screen, help, leaving

const menu = document.querySelector("[data-menu]");
menu?.addEventListener("click", () => {
  const open = document.getElementById("nav").classList.toggle("open");
  menu.setAttribute("aria-expanded", String(open));
});

const help = document.getElementById("help");
document.querySelector("[data-help]")?.addEventListener("click", () => help.showModal());

document.querySelector("[data-leave]")?.addEventListener("click", async () => {
  try {
    await change("DELETE", "/sessions");
    location.assign("/login");
  } catch (error) {
    if (error instanceof Problem && error.status === 401) location.assign("/login");
    else tell(error);
  }
});

// Search boxes: Enter searches, Ctrl+Enter asks

const MOST_QUERY = 24000; // letters of a query in an address; what is longer does not fit in what servers read of one

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", (event) => {
    const box = form.querySelector("[name=q]");
    if (!box || form.method !== "get") return;
    if (!box.value.trim()) {
      event.preventDefault();
      box.focus();
    } else if (encodeURIComponent(box.value).length > MOST_QUERY) {
      event.preventDefault();
      tell(new Problem(413, "This text is too long for a search.", "Paste the part that matters, such as the frames of your own code."));
    }
  });
  for (const box of form.querySelectorAll("[name=q]")) {
    box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.isComposing) return;
      const ask = form.querySelector("[data-ask]");
      if ((event.ctrlKey || event.metaKey) && ask) {
        event.preventDefault();
        form.requestSubmit(ask);
      } else if (box.matches("textarea") && !event.shiftKey) {
        event.preventDefault();
        form.requestSubmit(form.querySelector("button.primary"));
      }
    });
  }
}
for (const box of document.querySelectorAll("[data-submits]")) {
  box.addEventListener("change", () => box.form.requestSubmit());
}

// Lists: j and k, arrows, Enter

const items = () => [...document.querySelectorAll("[data-list] > [data-item]")];
let current = -1;

function move(by) {
  const all = items();
  if (!all.length) return false;
  current = Math.max(0, Math.min(all.length - 1, current + by));
  all.forEach((item, number) => item.classList.toggle("current", number === current));
  const link = all[current].querySelector("[data-open]");
  link?.focus({ preventScroll: true });
  all[current].scrollIntoView({ block: "nearest" });
  return true;
}
document.addEventListener("focusin", (event) => {
  const item = event.target.closest?.("[data-item]");
  const all = items();
  if (item && all.includes(item)) {
    current = all.indexOf(item);
    all.forEach((other) => other.classList.toggle("current", other === item));
  }
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    if (typing(event.target)) event.target.blur();
    return;
  }
  if (typing(event.target) || help.open) return;
  const inside = event.target instanceof Element && event.target.closest("[data-graph], .code");
  switch (event.key) {
    case "/": {
      const box = document.querySelector("[data-search]");
      if (!box) return;
      box.focus();
      box.select();
      break;
    }
    case "?":
      help.showModal();
      break;
    case "t":
      switchTheme();
      break;
    case "j":
      if (!move(1)) return;
      break;
    case "k":
      if (!move(-1)) return;
      break;
    case "ArrowDown":
      if (inside || !move(1)) return;
      break;
    case "ArrowUp":
      if (inside || !move(-1)) return;
      break;
    case "w": {
      const why = items()[Math.max(0, current)]?.querySelector(".why");
      if (!why) return;
      why.open = !why.open;
      break;
    }
    default:
      return;
  }
  event.preventDefault();
});

// Long code

for (const button of document.querySelectorAll("[data-unfold]")) {
  button.addEventListener("click", () => {
    button.previousElementSibling.classList.remove("folded");
    button.previousElementSibling.focus();
    button.remove();
  });
}

// A double click on a name in a file looks it up

document.querySelector("[data-symbols]")?.addEventListener("dblclick", () => {
  const name = String(getSelection()).trim();
  if (/^[A-Za-z_]\w*$/.test(name)) location.assign(pageUrl("symbol", { name }));
});

// How far an index is behind its tree

async function refresh(name) {
  const badges = document.querySelectorAll(`[data-freshness="${CSS.escape(name)}"]`);
  let told;
  try {
    told = await get(`/workspaces/${encodeURIComponent(name)}`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    for (const badge of badges) badge.lastElementChild.textContent = "state unknown";
    return;
  }
  const { stamp, behind_s: behind } = told;
  const age = (Date.now() - Date.parse(stamp.indexed_at)) / 1000;
  const words = [stamp.commit ? stamp.commit.slice(0, 10) : "no commit"];
  if (stamp.dirty) words.push("with local changes");
  let kind = "";
  const moved = told.stamp.behind ?? {};
  const followed = told.followed;
  const late = [
    moved.commits ? `${count(moved.commits)} commit${moved.commits > 1 ? "s" : ""}` : "",
    moved.files ? `${count(moved.files)} file${moved.files > 1 ? "s" : ""}` : "",
  ].filter(Boolean);
  if (followed?.mode === "away") {
    words.push("its folder is away");
    kind = "bad";
  } else if (late.length) {
    words.push(`${late.join(" and ")} behind`);
    kind = "fair";
  } else if (behind > 0) {
    words.push(`${duration(behind)} behind`);
    kind = "fair";
  } else if (behind === 0 && !told.changed_files) {
    words.push("up to date");
    kind = "good";
  } else if (told.changed_files) {
    words.push(`${count(told.changed_files)} files changed since`);
    kind = "fair";
  }
  for (const badge of badges) {
    badge.lastElementChild.textContent = words.join(", ");
    badge.title = `Indexed ${duration(Math.max(0, age))} ago${followed ? `, kept up to date (${followed.mode})` : ""}`;
    if (kind) badge.classList.add(kind);
  }
  for (const card of document.querySelectorAll(`[data-workspace="${CSS.escape(name)}"] [data-facts]`)) {
    card.textContent = `${count(told.files)} files, ${count(told.symbols)} symbols`;
  }
}
const named = new Set([...document.querySelectorAll("[data-freshness]")].map((badge) => badge.dataset.freshness));
for (const name of [...named].slice(0, 12)) refresh(name);
