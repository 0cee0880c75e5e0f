// Which context a model can have on a machine: the numbers of ``codehub plan`` as charts and a table.

import { Problem, count, drawn, duration, element, get, quiet, tell } from "./api.js";

const form = document.querySelector("[data-plan]");
const place = document.querySelector("[data-plan-result]");
const GIB = 2 ** 30;
const HEIGHT = 220;
const LEFT = 52;
const NARROWEST = 64; // from one context to the next
const WIDEST = 120;
const MOST_ROWS = 24;

const gib = (bytes) => (bytes / GIB >= 100 ? String(Math.round(bytes / GIB)) : (bytes / GIB).toFixed(1));
const contextName = (tokens) => (tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : count(tokens));
const speed = (tokens) => (tokens >= 10 ? Math.round(tokens) : tokens.toFixed(1));

// Of each context the recommended row, else the first that fits, else the one that lacks least.
function bestRows(told) {
  const best = new Map();
  for (const row of told.rows) {
    const known = best.get(row.context);
    const same = told.recommended && row.k_type === told.recommended.k_type && row.placement === told.recommended.placement;
    const worth = (row.fits ? 4 : 0) + (same ? 2 : 0);
    const lacks = row.missing.card + row.missing.host;
    if (!known || worth > known.worth || (worth === known.worth && !row.fits && lacks < known.lacks)) best.set(row.context, { row, worth, lacks });
  }
  return [...best.values()].map(({ row }) => row).sort((one, other) => one.context - other.context);
}

// Memory against context: what each context takes, below the line of what there is.

function memoryChart(told, rows, where) {
  const room = told.room[where];
  const most = Math.max(room, ...rows.map((row) => row.memory[where].total)) * 1.08 || 1;
  const y = (bytes) => HEIGHT - (bytes / most) * HEIGHT;
  const step = Math.max(NARROWEST, Math.min(WIDEST, (place.clientWidth - LEFT - 100) / rows.length));
  const width = LEFT + rows.length * step + 64;
  const parts = [];
  for (let share = 0; share <= 4; share += 1) {
    const bytes = (most / 1.08) * (share / 4);
    parts.push(drawn("line", { class: "axis", x1: LEFT, x2: width, y1: y(bytes), y2: y(bytes) }));
    parts.push(drawn("text", { x: LEFT - 8, y: y(bytes) + 4, "text-anchor": "end" }, gib(bytes)));
  }
  rows.forEach((row, number) => {
    const memory = row.memory[where];
    const x = LEFT + number * step + 16;
    let bottom = 0;
    const stack = [
      ["weights", memory.weights],
      ["kv", memory.kv],
      ["other", memory.total - memory.weights - memory.kv],
    ];
    const title = `${contextName(row.context)}: ${gib(memory.total)} GiB${row.fits ? "" : ", does not fit"}`;
    const bars = stack.map(([kind, bytes]) => {
      const rect = drawn("rect", { class: kind, x, width: 42, y: y(bottom + bytes), height: Math.max(0, y(bottom) - y(bottom + bytes)) });
      bottom += bytes;
      return rect;
    });
    parts.push(drawn("g", { class: row.fits ? "" : "misfit", role: "img", "aria-label": title }, drawn("title", {}, title), ...bars));
    parts.push(drawn("text", { x: x + 21, y: HEIGHT + 18, "text-anchor": "middle" }, contextName(row.context)));
  });
  parts.push(drawn("line", { class: "limit", x1: LEFT, x2: width, y1: y(room), y2: y(room) }));
  parts.push(drawn("text", { class: "limit-text", x: width, y: y(room) - 5, "text-anchor": "end" }, `${gib(room)} GiB`));
  return drawn(
    "svg",
    { width, height: HEIGHT + 34, viewBox: `0 -14 ${width} ${HEIGHT + 48}`, role: "group", "aria-label": `Memory of the ${where} against context` },
    ...parts,
  );
}

function legend() {
  const entries = [
    ["weights", "weights"],
    ["kv", "KV cache"],
    ["other", "buffers and the rest"],
  ];
  return element(
    "p",
    { class: "small muted facts" },
    entries.map(([kind, words]) => element("span", {}, element("span", { class: `swatch ${kind}`, "aria-hidden": "true" }), words)),
    element("span", {}, "dashed: what there is; pale: does not fit"),
  );
}

function table(rows, recommended) {
  const names = ["Context", "KV", "Where", "Card GiB", "RAM GiB", "Tokens/s full", "empty", "Reading it all", "4K more"];
  const head = element("tr", {}, names.map((name, number) => element("th", { scope: "col", class: number > 2 ? "right" : "" }, name)));
  const lines = rows.slice(0, MOST_ROWS).map((row) => {
    const speeds = row.fits
      ? [speed(row.decode_full.tokens_s), speed(row.decode_empty.tokens_s), duration(row.prefill_cold.seconds), duration(row.prefill_warm.seconds)]
      : ["no room", "", "", ""];
    const cells = [row.context, row.k_type, row.placement, gib(row.memory.card.total), gib(row.memory.host.total), ...speeds];
    cells[0] = contextName(row.context) + (row.beyond_training ? "*" : "");
    const chosen = recommended && row.context === recommended.context && row.k_type === recommended.k_type && row.placement === recommended.placement;
    return element(
      "tr",
      { class: row.fits ? "" : "muted" },
      cells.map((cell, number) => element("td", { class: number > 2 ? "right" : "" }, chosen && !number ? element("strong", {}, `${cell} recommended`) : String(cell))),
    );
  });
  return element("div", { class: "table-wrap" }, element("table", {}, head, ...lines));
}

const notes = (title, told) =>
  told.length ? [element("h2", {}, title), element("ul", { class: "reasons" }, told.map((note) => element("li", {}, note.text)))] : [];

function showOne(told) {
  const rows = bestRows(told);
  const row = told.recommended;
  const { model } = told;
  const made = [
    element("h2", {}, model.name),
    element("p", { class: "muted" }, `${(model.parameters / 1e9).toPrecision(3)} B parameters, ${gib(model.weight_bytes)} GiB of weights, trained on ${count(model.trained_context)} tokens`),
    row
      ? element("p", { class: "note good" }, `Recommended: ${contextName(row.context)} with the KV cache as ${row.k_type}, ${row.placement}; ${speed(row.decode_full.tokens_s)} tokens a second when full.`)
      : element("p", { class: "note bad" }, "Nothing fits this machine."),
  ];
  const drawnOnce = rows.some((one) => one.memory.card.total) ? ["card", "host"] : ["host"];
  for (const where of drawnOnce) {
    made.push(element("section", { class: "card card-body" }, element("h3", {}, where === "card" ? "Memory of the card" : "RAM"), element("div", { class: "chart", tabindex: 0, role: "region", "aria-label": "Chart" }, memoryChart(told, rows, where)), legend()));
  }
  made.push(table(rows, row), ...notes("Why", told.reasons), ...notes("Mind", told.cautions));
  if (told.profile) {
    const lines = Object.entries(told.profile).map(([key, value]) => `${key} = ${JSON.stringify(value)}`);
    made.push(element("h2", {}, "To run it so, in codehub.toml"), element("div", { class: "answer" }, element("pre", { tabindex: 0 }, element("code", {}, ["[profile]", ...lines].join("\n")))));
  }
  place.replaceChildren(...made);
}

function showAll(told) {
  const names = ["Model", "Weights GiB", "Context", "Where", "Tokens/s", "Reading it all"];
  const head = element("tr", {}, names.map((name) => element("th", { scope: "col" }, name)));
  const lines = told.models.map(({ model, recommended }) =>
    element(
      "tr",
      { class: recommended ? "" : "muted" },
      element("td", {}, element("a", { href: `/planner?model=${encodeURIComponent(model.name)}` }, model.name)),
      [gib(model.weight_bytes), ...(recommended ? [contextName(recommended.context), recommended.placement, speed(recommended.decode_full.tokens_s), duration(recommended.prefill_cold.seconds)] : ["", "not on this machine", "", ""])].map((cell) => element("td", {}, String(cell))),
    ),
  );
  place.replaceChildren(element("div", { class: "table-wrap card card-body" }, element("table", {}, head, ...lines)));
}

async function plan() {
  quiet();
  const given = Object.fromEntries(new FormData(form));
  place.setAttribute("aria-busy", "true");
  place.replaceChildren(element("p", { class: "muted" }, "Computing"));
  try {
    const told = await get("/plan", given);
    if (told.models) showAll(told);
    else showOne(told);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    place.replaceChildren();
    tell(error, plan);
  } finally {
    place.setAttribute("aria-busy", "false");
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  plan();
});
plan();
