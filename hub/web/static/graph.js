// The neighbours of a symbol as a picture: callers to the left, callees to the right, bases above, derived below.

import { Problem, drawn, element, fileUrl, get, pageUrl, visible, workspace } from "./api.js";

const MOST_NODES = 50;
const MOST_OF_ONE = 9; // neighbours of one kind that one node shows; the rest stands in the lists
const LETTERS = 30;
const LETTER_WIDTH = 7.6;
const HEIGHT = 28;
const ROW = 42; // between the middles of two nodes one above the other
const COLUMN_GAP = 64;
const LEVEL = 74; // between two levels of classes
const BESIDE = 18; // between two classes of one level
const NARROWEST = 300; // of a level's line
const CLASSES = new Set(["class", "struct", "union"]);
const SIDES = { callers: -1, callees: 1 };

const place = document.querySelector("[data-graph]");
const view = place?.querySelector(".graph-view");
const info = place?.querySelector(".graph-info");

const nodes = new Map(); // name -> node
const links = new Map(); // "from\0to\0kind" -> {from, to, kind, guess}
let centre = null;
let selected = null;

function node(name, side, depth, about = {}) {
  let found = nodes.get(name);
  if (!found) {
    if (nodes.size >= MOST_NODES) return null;
    found = { name, side, depth, expanded: false, hidden: 0, ...about };
    nodes.set(name, found);
  }
  return found;
}

function link(from, to, kind, guess) {
  const key = `${from.name}\0${to.name}\0${kind}`;
  if (!links.has(key) && from !== to) links.set(key, { from, to, kind, guess });
}

// One more step into one direction

async function addCalls(of, side) {
  const way = side < 0 ? "callers" : "callees";
  const told = await get(`/${way}`, { name: of.name, workspace, limit: 100, by_name: true });
  const end = side < 0 ? "inside" : "target";
  const seen = new Map();
  for (const edge of told.edges) {
    const name = edge[end] || edge.path;
    if (name !== of.name && !seen.has(name)) seen.set(name, edge);
  }
  let shown = 0;
  for (const [name, edge] of seen) {
    const known = nodes.get(name);
    const other = known ?? (shown < MOST_OF_ONE ? node(name, side, of.depth + 1, { parent: of, path: edge.path, line: edge.line, file: !edge[end] }) : null);
    if (!other) continue;
    if (!known) shown += 1;
    if (side < 0) link(other, of, "call", edge.how === "by-name");
    else link(of, other, "call", edge.how === "by-name");
  }
  of.hidden += Math.max(0, [...seen.keys()].filter((name) => !nodes.has(name)).length);
}

function addRelatives(of, relatives, level) {
  let shown = 0;
  for (const relative of relatives) {
    if (!nodes.has(relative.name) && shown >= MOST_OF_ONE) {
      of.hidden += 1;
      continue;
    }
    const other = node(relative.name, 0, 0, { level, path: relative.path, line: relative.line, type: true });
    if (!other) {
      of.hidden += 1;
      continue;
    }
    shown += 1;
    if (level < 0) link(of, other, "base", relative.how === "by-name");
    else link(other, of, "base", relative.how === "by-name");
    addRelatives(other, relative.relatives, level + Math.sign(level));
  }
}

async function expand(of) {
  if (of.expanded || of.file) return;
  of.expanded = true;
  say(element("span", { class: "muted" }, `Looking around ${of.name}`));
  try {
    of.hidden = 0;
    if (of.type) {
      const { classes } = await get("/hierarchy", { name: of.name, workspace });
      for (const tree of classes.slice(0, 1)) {
        if (of === centre || of.level < 0) addRelatives(of, tree.bases, (of.level ?? 0) - 1);
        if (of === centre || of.level > 0) addRelatives(of, tree.derived, (of.level ?? 0) + 1);
      }
    }
    if (!of.type || of === centre) {
      for (const side of Object.values(SIDES)) {
        if (of === centre || of.side === side) await addCalls(of, side);
      }
    }
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    of.expanded = false;
    say(element("span", {}, `${error.message} ${error.hint}`));
    return;
  }
  draw();
  tellOf(of);
}

// Where everything stands

function widthOf(item) {
  return Math.round(label(item).length * LETTER_WIDTH) + 22;
}

function label(item) {
  const name = visible(item.name);
  if (name.length <= LETTERS) return name;
  const parts = name.split("::");
  let short = parts.pop();
  while (parts.length && short.length + parts.at(-1).length + 4 <= LETTERS) short = `${parts.pop()}::${short}`;
  return short.length > LETTERS ? `${short.slice(0, LETTERS - 1)}…` : `…${short}`;
}

function arrange() {
  const all = [...nodes.values()];
  const columns = new Map(); // signed depth -> nodes
  for (const item of all) {
    item.width = widthOf(item);
    if (item.side) {
      const at = item.side * item.depth;
      columns.set(at, [...(columns.get(at) ?? []), item]);
    }
  }
  Object.assign(centre, { x: 0, y: 0 });
  let tallest = 0;
  for (const side of [-1, 1]) {
    let edge = centre.width / 2;
    for (let depth = 1; columns.has(side * depth); depth += 1) {
      // Beside whom they belong to, so that few lines cross; in order of the source otherwise, as sorting is stable.
      const column = columns.get(side * depth).sort((one, other) => one.parent.y - other.parent.y);
      const widest = Math.max(...column.map((item) => item.width));
      column.forEach((item, number) => {
        item.x = side * (edge + COLUMN_GAP + item.width / 2);
        item.y = (number - (column.length - 1) / 2) * ROW;
      });
      edge += COLUMN_GAP + widest;
      tallest = Math.max(tallest, column.length);
    }
  }
  const half = tallest > 1 ? ((tallest - 1) / 2) * ROW : 0;
  for (const sign of [-1, 1]) {
    let y = half + LEVEL;
    for (let level = sign; ; level += sign) {
      const lines = wrapped(all.filter((item) => item.level === level));
      if (!lines.length) break;
      for (const line of lines) {
        let x = -widthOfAll(line) / 2;
        for (const item of line) {
          Object.assign(item, { x: x + item.width / 2, y: sign * y });
          x += item.width + BESIDE;
        }
        y += ROW;
      }
      y += LEVEL - ROW;
    }
  }
}

const widthOfAll = (line) => line.reduce((sum, item) => sum + item.width + BESIDE, -BESIDE);

// Classes of one level in lines that can be seen whole.
function wrapped(row) {
  const widest = Math.max(NARROWEST, view.clientWidth - 60);
  const lines = [];
  for (const item of row) {
    const line = lines.at(-1);
    if (line && widthOfAll([...line, item]) <= widest) line.push(item);
    else lines.push([item]);
  }
  return lines;
}

function draw() {
  arrange();
  const all = [...nodes.values()];
  const pad = 26;
  const left = Math.min(...all.map((item) => item.x - item.width / 2)) - pad;
  const right = Math.max(...all.map((item) => item.x + item.width / 2)) + pad;
  const top = Math.min(...all.map((item) => item.y)) - HEIGHT - pad;
  const bottom = Math.max(...all.map((item) => item.y)) + HEIGHT + pad;
  const svg = drawn(
    "svg",
    {
      width: right - left,
      height: bottom - top,
      viewBox: `${left} ${top} ${right - left} ${bottom - top}`,
      role: "group",
      "aria-label": `Graph around ${centre.name}: ${all.length} symbols`,
    },
    drawn(
      "defs",
      {},
      drawn("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" }, drawn("path", { class: "arrow", d: "M0 0 8 4 0 8z" })),
    ),
    ...[...links.values()].map(drawLink),
    ...all.sort(readingOrder).map(drawNode),
  );
  const focused = document.activeElement?.closest?.(".node")?.dataset.name;
  view.replaceChildren(svg);
  view.scrollLeft = selected.x - left - view.clientWidth / 2;
  view.scrollTop = selected.y - top - view.clientHeight / 2;
  if (focused !== undefined) elementOf(nodes.get(focused))?.focus({ preventScroll: true });
}

const readingOrder = (one, other) => one.y - other.y || one.x - other.x;

function drawLink({ from, to, kind, guess }) {
  const upright = kind === "base";
  const [x1, y1, x2, y2] = upright
    ? [from.x, from.y + Math.sign(to.y - from.y) * (HEIGHT / 2), to.x, to.y - Math.sign(to.y - from.y) * (HEIGHT / 2)]
    : [from.x + from.width / 2, from.y, to.x - to.width / 2, to.y];
  const bend = upright ? (y2 - y1) / 2 : Math.max(24, Math.abs(x2 - x1) / 2);
  const path = upright
    ? `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`
    : `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  return drawn("path", { class: `link ${kind}${guess ? " guess" : ""}`, d: path, "marker-end": "url(#arrow)" });
}

function role(item) {
  if (item === centre) return "this symbol";
  if (item.level) return item.level < 0 ? "base" : "derived";
  return item.side < 0 ? "caller" : "callee";
}

function drawNode(item) {
  const classes = ["node", item === centre ? "centre" : "", item.type ? "type" : "", item === selected ? "selected" : ""];
  return drawn(
    "g",
    {
      class: classes.filter(Boolean).join(" "),
      transform: `translate(${item.x - item.width / 2} ${item.y - HEIGHT / 2})`,
      tabindex: item === (selected ?? centre) ? 0 : -1,
      role: "button",
      "aria-label": `${item.name}, ${role(item)}${item.expanded ? "" : ", not expanded"}`,
      "aria-expanded": item.expanded,
      "data-name": item.name,
      onclick: () => choose(item),
      onfocus: () => tellOf(item),
      onkeydown: (event) => keyed(event, item),
    },
    drawn("title", {}, item.name),
    drawn("rect", { width: item.width, height: HEIGHT, rx: 7 }),
    drawn("text", { x: item.width / 2, y: HEIGHT / 2 + 4.5, "text-anchor": "middle" }, label(item)),
  );
}

const elementOf = (item) => item && [...view.querySelectorAll(".node")].find((drawnNode) => drawnNode.dataset.name === item.name);

// Choosing and walking

function choose(item) {
  select(item);
  expand(item);
}

function select(item) {
  selected = item;
  for (const other of view.querySelectorAll(".node")) {
    const mine = other.dataset.name === item.name;
    other.classList.toggle("selected", mine);
    other.setAttribute("tabindex", mine ? 0 : -1);
  }
  tellOf(item);
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function keyed(event, item) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Enter" || event.key === " " || event.key === "e") choose(item);
  else if (event.key === "o") location.assign(pageOf(item));
  else if (STEPS[event.key]) {
    const next = towards(item, STEPS[event.key]);
    if (next) {
      select(next);
      const drawnNode = elementOf(next);
      drawnNode.focus();
      drawnNode.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  } else return;
  event.preventDefault();
  event.stopPropagation();
}

// The nearest node in a direction: along it counts once, beside it twice.
function towards(item, [dx, dy]) {
  let best = null;
  let least = Infinity;
  for (const other of nodes.values()) {
    const along = (other.x - item.x) * dx + (other.y - item.y) * dy;
    const beside = Math.abs((other.x - item.x) * dy) + Math.abs((other.y - item.y) * dx);
    const far = along + 2 * beside;
    if (other !== item && along > 8 && far < least) [best, least] = [other, far];
  }
  return best;
}

const pageOf = (item) => (item.file ? fileUrl(item.path, item.line) : pageUrl("symbol", { name: item.name }));

function say(...words) {
  info.replaceChildren(...words);
}

function tellOf(item) {
  const words = [element("strong", { class: "mono" }, item.name), element("span", { class: "muted small" }, role(item))];
  if (item.path) words.push(element("a", { class: "mono small", href: fileUrl(item.path, item.line) }, `${item.path}:${item.line}`));
  if (item !== centre) words.push(element("a", { class: "small", href: pageOf(item) }, item.file ? "Open the file" : "Open its page"));
  if (!item.expanded && !item.file) words.push(element("span", { class: "muted small" }, "Click or Enter expands"));
  if (item.hidden) words.push(element("span", { class: "muted small" }, `${item.hidden} more are not drawn`));
  if (nodes.size >= MOST_NODES) words.push(element("span", { class: "chip fair" }, `${MOST_NODES} symbols are the most it draws`));
  say(...words);
}

if (place) {
  const { name, kind } = place.dataset;
  centre = node(name, 0, 0, { type: CLASSES.has(kind), level: 0 });
  selected = centre;
  draw();
  expand(centre);
}
