// What agents ask to be allowed. Each decision holds for one request.

import { Problem, change, duration, element, get, quiet, tell } from "./api.js";

const list = document.querySelector("[data-approvals]");
const AGAIN_MS = 5000;
let failing = false;

const away = (when) => (Date.parse(when) - Date.now()) / 1000;

// A patch is read line by line; everything else as it is written.
function shown(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.includes("\n") ? element("pre", {}, text) : text;
}

function row(asked) {
  const decide = (grant) => async () => {
    try {
      await change("POST", `/approvals/${asked.id}`, { grant });
      refresh();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      tell(error);
    }
  };
  return element(
    "li",
    { class: "card job", "data-approval": asked.id },
    element("div", { class: "job-head" }, element("strong", {}, asked.tool), element("span", { class: "mono small" }, asked.workspace), element("span", { class: "chip fair" }, `${duration(Math.max(0, away(asked.until)))} left`)),
    element("p", { class: "small muted" }, `asked by ${asked.owner || asked.asked_by}, ${duration(Math.max(0, -away(asked.asked_at)))} ago`),
    element("dl", { class: "keys-list" }, Object.entries(asked.told).flatMap(([name, value]) => [element("dt", { class: "muted small" }, name), element("dd", { class: "mono" }, shown(value))])),
    element("p", { class: "mono small muted" }, `digest ${asked.digest}`),
    element("div", { class: "search-row" }, element("button", { class: "button primary", type: "button", onclick: decide(true) }, "Let it pass once"), element("button", { class: "button danger", type: "button", onclick: decide(false) }, "Deny")),
  );
}

async function refresh() {
  try {
    const { approvals } = await get("/approvals");
    if (failing) quiet();
    failing = false;
    const shown = JSON.stringify(approvals.map((asked) => asked.id));
    // What is being read or decided is not replaced under the reader's hand.
    if (list.dataset.shown !== shown || !list.contains(document.activeElement)) {
      list.dataset.shown = shown;
      list.replaceChildren(...(approvals.length ? approvals.map(row) : [element("li", { class: "empty" }, element("h2", {}, "Nothing waits"), element("p", {}, "When an agent wants to run something that needs a person's word, it appears here."))]));
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failing = true;
    tell(error);
    if (error.status === 401) clearInterval(ticking);
  }
}

const ticking = setInterval(() => document.hidden || refresh(), AGAIN_MS);
refresh();
