// Keys: made, shown once, replaced, revoked. The text of a key is nowhere but on the screen that made it.

import { Problem, change, element, get, quiet, tell } from "./api.js";

const form = document.querySelector("[data-new-key]");
const place = document.querySelector("[data-keys]");
const made = document.querySelector("[data-made]");
const KINDS = { active: "good", expired: "fair", revoked: "bad" };

const day = (when) => (when ? when.slice(0, 10) : "never");
const grants = (key) => key.grants.map((grant) => `${grant.workspace === "*" ? "all workspaces" : grant.workspace}: ${grant.scopes.join(", ")}`).join("; ");

function showOnce(told) {
  const text = element("code", { class: "secret", tabindex: 0, "data-secret": "" }, told.key);
  const copy = element("button", { class: "button", type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(told.key);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text); // no clipboard without TLS: at least it is selected
    }
  } }, "Copy");
  made.replaceChildren(element("div", { class: "note good" }, element("strong", {}, `The key of ${told.owner}. It is shown this once.`), text, element("div", { class: "search-row" }, copy, element("button", { class: "button", type: "button", onclick: () => made.replaceChildren() }, "I have it"))));
  made.scrollIntoView({ block: "nearest" });
}

async function doing(work) {
  quiet();
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(error);
    return;
  }
  refresh();
}

// A second click on the same button does it: no dialog, and no key lost by a slip.
function twice(words, sure, kind, work) {
  const button = element("button", { class: `button ${kind}`, type: "button", onclick: () => {
    if (button.dataset.sure) work();
    else {
      button.dataset.sure = "yes";
      button.textContent = sure;
      button.addEventListener("blur", () => {
        delete button.dataset.sure;
        button.textContent = words;
      }, { once: true });
    }
  } }, words);
  return button;
}

function row(key) {
  const live = key.state !== "revoked" && key.state !== "expired";
  return element(
    "tr",
    { "data-key": key.key_id },
    element("td", {}, element("strong", {}, key.owner), element("div", { class: "mono small muted" }, key.key_id)),
    element("td", {}, element("span", { class: `chip ${KINDS[key.state] ?? ""}` }, key.state)),
    element("td", { class: "small" }, grants(key)),
    element("td", { class: "small nowrap" }, day(key.expires_at)),
    element("td", { class: "small nowrap" }, day(key.last_used_at)),
    element(
      "td",
      {},
      live
        ? element(
            "div",
            { class: "search-row" },
            twice("Rotate", "Replace it now?", "", () => doing(async () => showOnce(await change("POST", `/keys/${key.key_id}/rotate`, { grace_s: 0 })))),
            twice("Revoke", "Revoke for good?", "danger", () => doing(() => change("DELETE", `/keys/${key.key_id}`))),
          )
        : "",
    ),
  );
}

async function refresh() {
  try {
    const { keys } = await get("/keys");
    const names = ["For", "State", "May", "Ends", "Last used", ""];
    const head = element("tr", {}, names.map((name) => (name ? element("th", { scope: "col" }, name) : element("td", {}))));
    place.replaceChildren(element("div", { class: "card card-body table-wrap" }, element("table", {}, head, ...keys.map(row))));
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(error, refresh);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = new FormData(form);
  const scopes = given.getAll("scope");
  if (!scopes.length) {
    tell(new Problem(400, "A key that may do nothing is no key.", "Choose at least one scope."));
    return;
  }
  const body = { owner: given.get("owner"), grants: [{ workspace: given.get("workspace"), scopes }] };
  if (given.get("days")) body.expires_in_days = Number(given.get("days"));
  doing(async () => {
    showOnce(await change("POST", "/keys", body));
    form.elements.owner.value = "";
  });
});
refresh();
