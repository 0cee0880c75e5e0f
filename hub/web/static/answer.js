// The text of an answer as elements. A small part of Markdown is shown as such; nothing of it is ever markup.

import { element } from "./api.js";

const INLINE = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]/g;
const ITEM = /^ {0,3}(?:[-*•]|(\d{1,3})[.)])\s+(.*)$/;
const FENCE = /^ {0,3}```/;
const HEADING = /^#{1,6}\s+(.*)$/;

// ``cite`` makes the element of a label, or null where the answer has no such citation.
export function blocks(text, cite) {
  const lines = text.split("\n");
  const made = [];
  let at = 0;
  const take = (matches) => {
    const from = at;
    while (at < lines.length && matches(lines[at])) at += 1;
    return lines.slice(from, at);
  };
  while (at < lines.length) {
    const line = lines[at];
    const item = ITEM.exec(line);
    if (!line.trim()) {
      at += 1;
    } else if (FENCE.test(line)) {
      at += 1;
      const inside = take((other) => !FENCE.test(other));
      at += 1;
      made.push(preformatted(inside));
    } else if (/^ {4}|^\t/.test(line)) {
      const inside = take((other) => /^ {4}|^\t/.test(other) || !other.trim());
      while (inside.length && !inside.at(-1).trim()) inside.pop();
      made.push(preformatted(inside.map((other) => other.replace(/^ {4}|^\t/, ""))));
    } else if (item) {
      const items = take((other) => ITEM.test(other) && Boolean(ITEM.exec(other)[1]) === Boolean(item[1]));
      made.push(element(item[1] ? "ol" : "ul", {}, items.map((other) => element("li", {}, inline(ITEM.exec(other)[2], cite)))));
    } else if (/^ {2,3}\S/.test(line)) {
      const items = take((other) => /^ {2,3}\S/.test(other) && !ITEM.test(other));
      made.push(element("ul", {}, items.map((other) => element("li", {}, inline(other.trim(), cite)))));
    } else if (HEADING.test(line)) {
      at += 1;
      made.push(element("h3", {}, inline(HEADING.exec(line)[1], cite)));
    } else {
      const inside = take(
        (other) => other.trim() && !FENCE.test(other) && !ITEM.test(other) && !HEADING.test(other) && !/^ {2}/.test(other),
      );
      if (!inside.length) at += 1;
      made.push(element("p", {}, inline(inside.length ? inside.join("\n") : line, cite)));
    }
  }
  return made;
}

function preformatted(lines) {
  return element("pre", { tabindex: 0 }, element("code", {}, lines.join("\n")));
}

function inline(text, cite) {
  const parts = [];
  let done = 0;
  for (const found of text.matchAll(INLINE)) {
    const [whole, code, strong, labels] = found;
    const made = labels
      ? labels.split(",").map((label) => cite(Number(label))).filter(Boolean)
      : [element(code === undefined ? "strong" : "code", {}, ...(code === undefined ? inline(strong, cite) : [code]))];
    if (!made.length) continue; // brackets of the code itself, such as values[0]
    if (found.index > done) parts.push(text.slice(done, found.index));
    parts.push(...made);
    done = found.index + whole.length;
  }
  if (done < text.length) parts.push(text.slice(done));
  return parts;
}
