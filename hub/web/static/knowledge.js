// What people keep of a tree: searched, proposed, and accepted or rejected by whoever may.

import { Problem, change, element, fileUrl, get, pageUrl, quiet, tell, workspace } from "./api.js";

const MOST = 200;
const SHADES = { accepted: "good", proposed: "fair", superseded: "bad", retired: "bad", expired: "bad" };
const form = document.querySelector("[data-knowledge-search]");
const kept = document.querySelector("[data-kept]");
const waiting = document.querySelector("[data-waiting]");
const section = document.querySelector("[data-waiting-section]");
const here = (path) => `${path}?workspace=${encodeURIComponent(workspace)}`;

async function tried(work) {
  try {
    await work();
    quiet();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(error);
  }
}

const act = (entry, what, body) => () =>
  tried(async () => {
    await change("POST", here(`/knowledge/${entry.id}/${what}`), body);
    await refresh();
  });

function place(about) {
  const where = about.path ? `${about.path}${about.line ? `:${about.line}` : ""}` : "";
  const href = about.symbol ? pageUrl("symbol", { name: about.symbol }) : fileUrl(about.path, about.line || undefined);
  return element("a", { class: "chip", href }, about.symbol || where);
}

function warnings(entry) {
  const told = [];
  if (entry.superseded_by.length) told.push(`No longer so: ${entry.superseded_by.join(", ")} took its place.`);
  if (entry.drift.length) told.push(`Perhaps no longer so, the code is not as it was: ${entry.drift.join("; ")}.`);
  if (entry.also_held.length) told.push(`Held for the same place, too: ${entry.also_held.join(", ")}.`);
  if (entry.state === "retired" && entry.reason) told.push(`Retired: ${entry.reason}.`);
  return told.map((text) => element("p", { class: "note fair" }, text));
}

function buttons(entry) {
  const may = new Set(entry.open_to_you);
  const reason = element("input", { class: "input", name: "reason", maxlength: 500, placeholder: "why not", "aria-label": "Reason", autocomplete: "off" });
  const why = () => ({ reason: reason.value });
  const made = [];
  const add = (name, kind, work) => made.push(element("button", { class: `button ${kind}`, type: "button", onclick: () => work() }, name));
  if (may.has("accept")) add("Accept", "primary", act(entry, "review", { accept: true }));
  if (may.has("reject")) add("Reject", "danger", () => act(entry, "review", { accept: false, ...why() })());
  if (may.has("reaffirm") && entry.drift.length) add("It still holds", "", act(entry, "reaffirm"));
  if (may.has("retire")) add("Retire", "danger", () => act(entry, "retire", why())());
  return made.length ? element("div", { class: "search-row" }, made, may.has("reject") || may.has("retire") ? reason : "") : "";
}

function row(entry) {
  const by = `${entry.created_at.slice(0, 10)}, by ${entry.author}${entry.reviewer && entry.state === "accepted" ? `, accepted by ${entry.reviewer}` : ""}`;
  const source = entry.source ? `${entry.source.name}${entry.source.part ? `, ${entry.source.part}` : ""}` : "";
  const replaced = (entry.replaces ?? []).map((old) =>
    element("details", { open: true }, element("summary", { class: "small muted" }, `takes the place of ${old.id}: ${old.title}`), element("pre", { class: "doc" }, old.text)),
  );
  return element(
    "li",
    { class: "card job", id: `entry-${entry.id}`, "data-entry": entry.id, "data-state": entry.state },
    element("div", { class: "job-head" }, element("strong", {}, entry.title), element("span", { class: "chip" }, entry.kind), element("span", { class: `chip ${SHADES[entry.state]}` }, entry.state), element("span", { class: "mono small muted" }, String(entry.id))),
    element("p", { class: "small muted" }, by),
    warnings(entry),
    entry.text === entry.title ? "" : element("p", { class: "doc" }, entry.text),
    entry.about.length ? element("div", { class: "tags" }, entry.about.map(place)) : "",
    entry.evidence.length ? element("p", { class: "small muted" }, `rests on ${entry.evidence.join("; ")}`) : "",
    source ? element("p", { class: "small muted" }, `taken from ${source}`) : "",
    replaced,
    buttons(entry),
  );
}

const nothing = (title, text) => element("li", { class: "empty" }, element("h2", {}, title), element("p", {}, text));

// A proposal is shown with what it would replace, as a reviewer has to see both.
const whole = (entry) => (entry.supersedes.length ? get(`/knowledge/${entry.id}`, { workspace }) : entry);

async function refresh() {
  const query = form.elements.q.value.trim();
  const only = form.elements.all.checked ? ["accepted", "superseded", "expired", "retired"] : ["accepted", "superseded"];
  const [proposed, found] = await Promise.all([
    get("/knowledge", { workspace, only: ["proposed"], limit: MOST }),
    get("/knowledge", { workspace, query, only, limit: MOST }),
  ]);
  waiting.replaceChildren(...(await Promise.all(proposed.entries.map(whole))).map(row));
  section.hidden = !proposed.entries.length;
  const empty = query ? nothing("Nothing that is kept speaks of it", "Other words or the name of a symbol may find it.") : nothing("Nothing is kept yet", "What people know and no file says belongs here.");
  kept.replaceChildren(...(found.entries.length ? found.entries.map(row) : [empty]));
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  tried(refresh);
});

const proposal = document.querySelector("[data-new-entry]");
proposal?.addEventListener("submit", (event) => {
  event.preventDefault();
  const { text, kind, about, evidence } = proposal.elements;
  tried(async () => {
    await change("POST", here("/knowledge"), {
      text: text.value,
      kind: kind.value,
      about: about.value.trim() ? [about.value] : [],
      evidence: evidence.value.trim() ? [evidence.value] : [],
    });
    proposal.reset();
    await refresh();
  });
});

tried(refresh);
