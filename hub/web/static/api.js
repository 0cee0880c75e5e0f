// Talking to the server: one way to call, one way to read a stream, one way to say what went wrong.

const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

export const workspace = meta("workspace");

export class Problem extends Error {
  constructor(status, message, hint = "", waitS = 0) {
    super(message);
    this.status = status; // 0: the server did not answer at all
    this.hint = hint;
    this.waitS = waitS;
  }
}

// Characters that a reader would not see, spelt out as the server does in what it renders.
const COVERT =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\u{d800}-\u{dfff}\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

export function visible(text) {
  return String(text)
    .replaceAll("\r\n", "\n")
    .replace(COVERT, (covert) => {
      const code = covert.codePointAt(0).toString(16);
      return code.length > 4 ? `\\U${code.padStart(8, "0")}` : `\\u${code.padStart(4, "0")}`;
    });
}

// An element; children are elements or text, and text is never markup.
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, visible(value));
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined && child !== "") {
      made.append(child instanceof Node ? child : visible(child));
    }
  }
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) made.setAttribute(key, visible(value));
  }
  for (const child of children.flat()) made.append(child instanceof Node ? child : visible(child));
  return made;
}

// A bar whose whole length is 1.
export function bar(share, label, kind = "") {
  const width = Math.round(Math.max(0, Math.min(1, share)) * 100);
  return drawn(
    "svg",
    { class: `bar ${kind}`, viewBox: "0 0 100 8", preserveAspectRatio: "none", role: "img", "aria-label": label },
    drawn("rect", { class: "track", width: 100, height: 8, rx: 2 }),
    drawn("rect", { class: "fill", width, height: 8, rx: 2 }),
  );
}

export function pageUrl(page, parameters = {}, where = workspace) {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") given.append(key, value);
  }
  const query = given.toString();
  return `${where ? `/w/${encodeURIComponent(where)}` : ""}/${page}${query ? `?${query}` : ""}`;
}

export const fileUrl = (path, first, last, where = workspace) =>
  `${pageUrl("file", { path, line: first, last: last && last !== first ? last : "" }, where)}${first ? `#L${first}` : ""}`;

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    told = {}; // a proxy answered, or nobody
  }
  const waitS = Number(response.headers.get("retry-after")) || 0;
  return new Problem(response.status, told.error ?? `The server answered ${response.status}.`, told.hint ?? "", waitS);
}

async function sent(path, options) {
  const headers = { accept: "application/json", ...options.headers };
  if (options.method && options.method !== "GET") headers["x-csrf-token"] = meta("csrf");
  if (options.body !== undefined) headers["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      ...options,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer.", "It may be restarting: try again in a moment.");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

const API = "/api/v1";

export async function get(path, parameters = {}, options = {}) {
  const given = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== null && one !== undefined && one !== "") given.append(key, one);
    }
  }
  const query = given.toString();
  return (await sent(`${API}${path}${query ? `?${query}` : ""}`, options)).json();
}

export async function change(method, path, body) {
  const response = await sent(`${API}${path}`, { method, body });
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

// The highlighted lines of a file, as the server renders them: every character of the source is escaped there.
export async function snippet(path, first, last, where = workspace) {
  const response = await sent(pageUrl("snippet", { path, first_line: first, last_line: last }, where), {
    headers: { accept: "text/html" },
  });
  const parsed = new DOMParser().parseFromString(await response.text(), "text/html");
  return [...parsed.body.childNodes];
}

// Server-sent events of a POST: (name, content) as they come.
export async function* events(path, body, signal) {
  const response = await sent(`${API}${path}`, { method: "POST", body, signal, headers: { accept: "text/event-stream" } });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      let part;
      try {
        part = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Problem(0, "The connection broke in the middle.", "Ask again.");
      }
      if (part.done) return;
      waiting += part.value;
      let end;
      while ((end = waiting.indexOf("\n\n")) >= 0) {
        const block = waiting.slice(0, end);
        waiting = waiting.slice(end + 2);
        let name = "message";
        const data = [];
        for (const line of block.split("\n")) {
          if (line.startsWith("event:")) name = line.slice(6).trim();
          else if (line.startsWith("data:")) data.push(line.slice(5).trimStart());
        }
        if (data.length) yield [name, JSON.parse(data.join("\n"))];
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have ended already
  }
}

// What went wrong, on top of the page, with the way out. ``again`` is offered where trying again may help.
export function tell(problem, again) {
  const banner = document.getElementById("banner");
  if (!(problem instanceof Problem)) throw problem;
  const note = element("div", { class: "note bad" });
  note.append(element("span", {}, element("strong", {}, problem.message), problem.hint ? ` ${problem.hint}` : ""));
  if (problem.status === 401) {
    const here = location.pathname + location.search;
    note.replaceChildren(
      element("span", {}, element("strong", {}, "You are not logged in any more."), " Your key may have ended."),
      element("a", { class: "button", href: `/login?next=${encodeURIComponent(here)}` }, "Log in"),
    );
  } else if (problem.status === 429 || problem.status === 503) {
    const left = element("span", { class: "number" });
    note.append(left);
    let seconds = problem.waitS || 10;
    const tick = () => {
      if (!note.isConnected) return;
      left.textContent = seconds > 0 ? `Again in ${seconds} s` : "Now it may work.";
      if (seconds > 0) {
        seconds -= 1;
        setTimeout(tick, 1000);
      }
    };
    setTimeout(tick, 0);
  }
  if (again) note.append(element("button", { class: "button", type: "button", onclick: () => { quiet(); again(); } }, "Try again"));
  banner.replaceChildren(note);
  banner.hidden = false;
}

export function quiet() {
  const banner = document.getElementById("banner");
  banner.hidden = true;
  banner.replaceChildren();
}

export function duration(seconds) {
  if (seconds < 0.0995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export const share = (value) => `${Math.floor(value * 100 + 1e-9)}%`;
export const count = (value) => Number(value).toLocaleString("en");
