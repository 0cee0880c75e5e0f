// A question on its way: the tiers as they are tried, the answer as it is written, the evidence beside it.

import { blocks } from "./answer.js";
import { Problem, bar, count, duration, element, events, fileUrl, get, pageUrl, quiet, share, snippet, tell, workspace } from "./api.js";

const root = document.querySelector("[data-asking]");
const part = (name) => root?.querySelector(`[data-${name}]`);

const TIERS = {
  exact: ["Tables", "the symbol table alone, without a model"],
  rag: ["Moderate prompt", "the best pieces of evidence"],
  wide: ["Wide prompt", "more pieces, with what they call and are called by"],
  focus: ["Focus", "all signatures, and the bodies of the best files"],
  full: ["Full load", "as much of the code base as the model can read"],
  analysis: ["Analysis", "all of it, part after part"],
  none: ["No answer", "declined rather than guessed"],
};
const sureness = (value) => (value >= 0.75 ? "good" : value >= 0.5 ? "fair" : "bad");
const tierName = (tier) => TIERS[tier]?.[0] ?? tier;

let run = null; // the question being asked

class Run {
  constructor() {
    this.stopping = new AbortController();
    this.text = "";
    this.citations = [];
    this.rungs = [{ tier: root.dataset.tier || "", state: "active", started: performance.now() }];
    this.answer = null;
    this.drawing = false;
  }

  get rung() {
    return this.rungs.at(-1);
  }
}

// What happens, event by event

const HAPPENS = {
  found(at, { citations, confidence }) {
    at.citations = citations;
    at.rung.tier = confidence.tier === "none" ? at.rung.tier || "none" : confidence.tier;
    at.rung.confidence = confidence.value;
    at.rung.reasons = confidence.reasons;
    showEvidence(at.citations);
  },
  reading(at, told) {
    at.rung.reading = told;
  },
  prefill(at, told) {
    at.rung.prefill = told;
  },
  part(at, told) {
    at.rung.part = told;
  },
  piece(at, { text }) {
    at.text += text;
    at.rung.writing = true;
  },
  moved(at, { attempt, to, gain, cost_s: seconds }) {
    Object.assign(at.rung, finished(attempt), { state: to === "none" ? "refused" : "left" });
    at.text = ""; // what was told before a move is void
    at.rungs.push({ tier: to, state: "active", started: performance.now(), gain, expected: seconds });
  },
  answer(at, told) {
    at.answer = told;
    at.text = told.answer;
    // One that declines cites nothing; what was looked at stays.
    if (told.citations.length || !told.declined) at.citations = told.citations;
    finishLadder(at);
  },
  error(_at, { error, hint }) {
    throw new Problem(502, error, hint);
  },
};

const finished = (attempt) => ({
  tier: attempt.tier,
  confidence: attempt.checked ?? attempt.confidence,
  checked: attempt.checked !== null,
  seconds: attempt.seconds,
  usage: attempt.usage,
  model: attempt.model === "none" ? "" : attempt.model,
  reason: attempt.left ?? "",
});

function finishLadder(at) {
  const told = at.answer;
  const rungs = told.attempts.map((attempt) => ({
    ...finished(attempt),
    state: attempt.left ? "left" : attempt.tier === told.tier ? "stands" : "left",
  }));
  if (told.declined) {
    rungs.push({ tier: "none", state: "refused", confidence: told.confidence.value, reason: told.confidence.reasons.join(" ") });
  } else {
    // The last attempt of the tier that answered is the one that stands, also where a later tier was left again.
    const standing = rungs.findLast((rung) => rung.tier === told.tier);
    if (standing) Object.assign(standing, { state: "stands", confidence: told.confidence.value, reasons: told.confidence.reasons });
  }
  if (rungs.length) at.rungs = rungs;
}

async function ask() {
  run?.stopping.abort();
  const at = (run = new Run());
  quiet();
  part("again").hidden = true;
  part("stop").hidden = false;
  part("refusal").replaceChildren();
  part("facts").replaceChildren();
  part("decisions").hidden = true;
  showEvidence([]);
  say("asking", "accent");
  draw(at);
  const body = { question: root.dataset.question, workspace, stream: true, tier: root.dataset.tier || "auto" };
  if (root.dataset.policy) body.policy = root.dataset.policy;
  try {
    for await (const [name, content] of events("/ask", body, at.stopping.signal)) {
      HAPPENS[name]?.(at, content);
      later(at);
    }
    if (!at.answer) throw new Problem(0, "The answer stopped half-way.", "Ask again.");
    showEnd(at);
  } catch (error) {
    if (at !== run) return;
    at.rung.state = "refused";
    at.failed = true;
    if (error.name === "AbortError") {
      at.rung.reason = "Stopped.";
      say("stopped", "fair");
    } else {
      if (!(error instanceof Problem)) throw error;
      at.rung.reason = error.message;
      say("not answered", "bad");
      tell(error, ask);
    }
  } finally {
    if (at === run) {
      part("stop").hidden = true;
      part("again").hidden = false;
      part("answer").setAttribute("aria-busy", "false");
      draw(at);
      clearInterval(ticking);
    }
  }
}

function say(words, kind = "") {
  const chip = part("state");
  chip.className = `chip ${kind}`;
  chip.lastElementChild.textContent = words;
}

// Drawing, at most once a frame

function later(at) {
  if (at.drawing) return;
  at.drawing = true;
  requestAnimationFrame(() => {
    at.drawing = false;
    if (at === run) draw(at);
  });
}

function draw(at) {
  const box = part("answer");
  const busy = !at.answer && !at.failed;
  box.classList.toggle("void", Boolean(at.failed && at.text));
  const declined = at.answer?.declined && at.answer.refusal;
  const made = declined ? [] : blocks(at.text, (label) => citation(at, label));
  if (busy) {
    const cursor = element("span", { class: "cursor", "aria-hidden": "true" });
    if (made.length) made.at(-1).append(cursor);
    else made.push(element("p", { class: "muted" }, waiting(at.rung), " ", cursor));
  }
  box.setAttribute("aria-busy", String(busy));
  box.replaceChildren(...made);
  drawLadder(at);
}

function waiting(rung) {
  if (rung.part?.total) return `Reading part ${Math.max(1, rung.part.number)} of ${rung.part.total}.`;
  if (rung.prefill) return `The model has read ${share(rung.prefill.read / Math.max(1, rung.prefill.total))} of the prompt.`;
  if (rung.reading) return `${rung.reading.model} reads ${count(rung.reading.prompt_tokens)} tokens.`;
  return "Looking for the evidence.";
}

function drawLadder(at) {
  part("ladder").replaceChildren(...at.rungs.map((rung) => element("li", { class: `rung ${rung.state}` }, ...rungParts(rung))));
}

function rungParts(rung) {
  const facts = [];
  const sure = rung.tier === "exact" && rung.state === "left" ? undefined : rung.confidence; // tables answer, or do not
  if (sure !== undefined) facts.push(`${share(sure)} ${rung.checked ? "that it is right" : "that the evidence is there"}`);
  const seconds = rung.seconds ?? (rung.state === "active" ? (performance.now() - rung.started) / 1000 : null);
  if (seconds !== null) facts.push(duration(seconds));
  const tokens = rung.usage?.prompt || rung.reading?.prompt_tokens;
  if (tokens) facts.push(`${count(tokens)} tokens read`);
  if (rung.usage?.cached) facts.push(`${count(rung.usage.cached)} of them known`);
  if (rung.usage?.completion) facts.push(`${count(rung.usage.completion)} written`);
  const model = rung.model || rung.reading?.model;
  if (model && model !== "none") facts.push(model);
  const [name, words] = TIERS[rung.tier] ?? ["Looking", "what kind of question this is"];
  const head = element(
    "div",
    { class: "rung-head" },
    element("strong", {}, name),
    element("span", { class: "small muted" }, words),
  );
  const made = [head];
  if (facts.length) made.push(element("p", { class: "number" }, facts.join(" · ")));
  if (rung.state === "active" && rung.gain) {
    made.push(element("p", {}, `Expected to show what is missing in ${share(rung.gain)} of such cases, in ${duration(rung.expected)}.`));
  }
  if (rung.state === "active" && rung.prefill && !rung.writing) {
    made.push(bar(rung.prefill.read / Math.max(1, rung.prefill.total), "Prompt read"));
  } else if (rung.state === "active" && rung.part?.total) {
    made.push(bar(rung.part.number / rung.part.total, "Parts read"));
  } else if (sure !== undefined) {
    made.push(bar(sure, `Confidence ${share(sure)}`, sureness(sure)));
  }
  if (rung.reason) made.push(element("p", {}, rung.reason));
  else if (rung.state === "stands" && rung.reasons?.length) made.push(element("p", {}, rung.reasons.slice(0, 3).join(" ")));
  return made;
}

function showEnd(at) {
  const told = at.answer;
  if (told.declined) say("no evidence found", "bad");
  else {
    const words = told.model === "none" && told.tier !== "exact" ? "evidence alone" : "answered";
    say(`${words}, ${share(told.confidence.value)} sure`, sureness(told.confidence.value));
  }
  showEvidence(at.citations);
  const facts = [duration(told.seconds), tierName(told.tier)];
  if (told.model !== "none") facts.push(told.model);
  if (told.usage.prompt) facts.push(`${count(told.usage.prompt)} tokens read, ${count(told.usage.completion)} written`);
  part("facts").replaceChildren(...facts.map((fact) => element("span", { class: "number" }, fact)));
  if (told.confidence.guarantee) part("facts").append(element("span", {}, told.confidence.guarantee));
  for (const note of told.notes) part("facts").append(element("p", { class: "note" }, note));
  if (told.refusal) showRefusal(told.refusal);
  const beside = matchMedia("(min-width: 60.01rem)").matches;
  if (beside && told.model !== "none" && at.citations.length) open(at.citations[0].label, { scroll: false });
  if (told.explanation.length) showDecisions(told.explanation);
}

// No evidence: why, what is missing, what may help

const LACKS = { name: "Nothing here is named", word: "Nothing here holds the word", part: "Nothing found speaks to" };

function showRefusal(refusal) {
  const body = [element("h2", {}, "No evidence was found, so there is no answer")];
  if (refusal.reasons.length) body.push(element("ul", { class: "reasons" }, refusal.reasons.map((reason) => element("li", {}, reason))));
  if (refusal.missing.length) {
    body.push(
      element("h3", {}, "What is missing"),
      element(
        "ul",
        { class: "reasons" },
        refusal.missing.map((missing) =>
          element("li", {}, `${LACKS[missing.lack] ?? "Missing:"} `, element("code", {}, missing.what), ".", nearest(missing)),
        ),
      ),
    );
  }
  if (refusal.remedies.length) {
    body.push(
      element("h3", {}, "What may help"),
      element(
        "ul",
        { class: "remedies" },
        refusal.remedies.map((remedy) => element("li", {}, remedy.text, remedy.command ? element("code", {}, remedy.command) : "")),
      ),
    );
  }
  body.push(element("p", {}, element("a", { class: "button", href: pageUrl("search", { q: root.dataset.question }) }, "See what a search finds")));
  part("refusal").replaceChildren(element("section", { class: "card card-body stack", "data-declined": "" }, ...body));
}

function nearest(missing) {
  if (!missing.nearest.length) return "";
  const links = missing.nearest.slice(0, 4).flatMap((name, number) => [
    number ? ", " : "",
    element("a", { class: "mono", href: pageUrl("symbol", { name }) }, name),
  ]);
  return element("span", {}, " Meant may be ", ...links, ".");
}

function showDecisions(decisions) {
  const head = element("tr", {}, ["at", "goes to", "confidence", "weighed", "because"].map((word) => element("th", { scope: "col" }, word)));
  const rows = decisions.map((decision) =>
    element(
      "tr",
      {},
      element("td", {}, tierName(decision.at)),
      element("td", { class: "nowrap" }, decision.way === "move" ? tierName(decision.tier) : decision.way === "accept" ? "stays" : "refuses"),
      element("td", { class: "right" }, share(decision.value)),
      element(
        "td",
        { class: "small" },
        decision.weighed.map((rung) =>
          element("div", {}, `${tierName(rung.tier)}: `, rung.closed ?? `gain ${share(rung.gain)}, ${duration(rung.cost_s)}, worth ${rung.worth_s} s`),
        ),
      ),
      element("td", { class: "small" }, decision.reason),
    ),
  );
  part("decisions-table").replaceChildren(element("table", {}, head, ...rows));
  part("decisions").hidden = false;
}

// Citations: a number in the text opens the snippet beside it

function citation(at, label) {
  if (!at.citations.some((known) => known.label === label)) return null;
  return element(
    "button",
    {
      class: "cite",
      type: "button",
      "data-cite": label,
      "aria-label": `Citation ${label}`,
      "aria-controls": `evidence-${label}`,
      "aria-expanded": String(opened === label),
      onclick: () => open(label),
    },
    String(label),
  );
}

const KEPT = "knowledge://"; // begins the place of what people keep beside the tree
let opened = 0; // the label whose snippet was opened last

function showEvidence(citations) {
  const list = part("evidence");
  if (!citations.length) {
    const words = run?.answer ? "No lines were found that an answer could rest on." : "What the answer rests on appears here.";
    list.replaceChildren(element("li", { class: "muted small" }, words));
    return;
  }
  list.replaceChildren(
    ...citations.map((cited) =>
      element(
        "li",
        { class: "card", id: `evidence-${cited.label}`, "data-path": cited.path, "data-first": cited.first_line, "data-last": cited.last_line },
        element(
          "button",
          { class: "head", type: "button", "aria-expanded": "false", onclick: () => toggle(cited.label) },
          element("span", { class: "label" }, String(cited.label)),
          element("span", {}, element("span", { class: "place" }, `${cited.path}:${cited.first_line}${cited.last_line === cited.first_line ? "" : `-${cited.last_line}`}`), cited.symbol ? element("span", { class: "small muted" }, ` ${cited.symbol}`) : ""),
        ),
      ),
    ),
  );
}

async function toggle(label) {
  const item = document.getElementById(`evidence-${label}`);
  const shown = item.querySelector(".shown");
  if (shown) {
    shown.remove();
    item.querySelector(".head").setAttribute("aria-expanded", "false");
    item.classList.remove("current");
    mark(0);
  } else await open(label);
}

async function open(label, { scroll = true } = {}) {
  const item = document.getElementById(`evidence-${label}`);
  if (!item) return;
  for (const other of part("evidence").querySelectorAll(".current")) other.classList.remove("current");
  item.classList.add("current");
  mark(label);
  item.querySelector(".head").setAttribute("aria-expanded", "true");
  if (!item.querySelector(".shown")) {
    const { path, first, last } = item.dataset;
    const shown = element("div", { class: "shown" }, element("p", { class: "card-body small muted" }, "Reading the lines"));
    item.append(shown);
    try {
      if (path.startsWith(KEPT)) {
        const number = path.slice(KEPT.length);
        const entry = await get(`/knowledge/${number}`, { workspace });
        const page = `${pageUrl("knowledge")}#entry-${number}`;
        shown.replaceChildren(element("p", { class: "card-body doc" }, entry.text), element("p", { class: "card-body small" }, element("a", { href: page }, "What people keep")));
        return;
      }
      const lines = await snippet(path, first, last);
      const code = element("div", { class: "code", role: "region", tabindex: 0, "aria-label": `Lines of citation ${label}` });
      code.append(...lines);
      shown.replaceChildren(code, element("p", { class: "card-body small" }, element("a", { href: fileUrl(path, first, last) }, "In its file")));
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      shown.replaceChildren(element("p", { class: "card-body small" }, error.message));
    }
  }
  if (scroll) item.scrollIntoView({ block: "nearest" });
}

function mark(label) {
  opened = label;
  for (const button of part("answer").querySelectorAll("[data-cite]")) {
    button.setAttribute("aria-expanded", String(Number(button.dataset.cite) === label));
  }
}

// Keys and buttons

let ticking = 0;

function begin() {
  clearInterval(ticking);
  ticking = setInterval(() => run && later(run), 500); // seconds of the rung at hand
  ask();
}

if (root) {
  part("stop").addEventListener("click", () => run?.stopping.abort());
  part("again").addEventListener("click", begin);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") run?.stopping.abort();
    else if (/^[1-9]$/.test(event.key)) open(Number(event.key));
  });
  begin();
}
