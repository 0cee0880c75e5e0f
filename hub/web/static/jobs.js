// Long work: how far it is, as it goes; stopping it and going on with it.

import { Problem, bar, change, count, duration, element, get, quiet, tell } from "./api.js";

const list = document.querySelector("[data-jobs]");
const form = document.querySelector("[data-new-job]");
const KINDS = { queued: "", running: "accent", done: "good", failed: "bad", cancelled: "fair", interrupted: "fair" };
const BUSY_MS = 1000;
const IDLE_MS = 10000;
let timer = 0;
let failing = false;

const between = (from, to) => duration(Math.max(0, (Date.parse(to ?? new Date().toISOString()) - Date.parse(from)) / 1000));

function row(job) {
  const live = job.state === "queued" || job.state === "running";
  const facts = [];
  if (job.stage && live) facts.push(job.stage);
  if (job.total && live) facts.push(`${count(job.done)} of ${count(job.total)}`);
  if (job.started_at) facts.push(live ? `for ${between(job.started_at)}` : `took ${between(job.started_at, job.ended_at)}`);
  facts.push(`asked ${between(job.created_at)} ago by ${job.asked_by}`);
  const act = (words, path, kind = "") =>
    element("button", { class: `button ${kind}`, type: "button", onclick: () => doing(`/jobs/${job.id}/${path}`) }, words);
  return element(
    "li",
    { class: "card job", "data-job": job.id, "data-state": job.state },
    element(
      "div",
      { class: "job-head" },
      element("strong", {}, job.kind),
      job.workspace ? element("span", { class: "mono small" }, job.workspace) : "",
      element("span", { class: `chip ${KINDS[job.state] ?? ""}` }, job.state),
      element("span", { class: "push" }, live ? act("Cancel", "cancel", "danger") : "", ["failed", "cancelled", "interrupted"].includes(job.state) ? act("Resume", "resume") : ""),
    ),
    live && job.total ? bar(job.done / job.total, `${job.kind}: ${job.stage}`) : "",
    element("p", { class: "small muted number" }, facts.join(" · ")),
    job.error ? element("p", { class: "note bad" }, job.error, job.hint ? ` ${job.hint}` : "") : "",
  );
}

async function refresh() {
  clearTimeout(timer);
  let wait = IDLE_MS;
  try {
    const { jobs } = await get("/jobs");
    if (failing) quiet();
    failing = false;
    const focused = document.activeElement?.closest?.("[data-job]")?.dataset.job;
    list.replaceChildren(...(jobs.length ? jobs.map(row) : [element("li", { class: "empty" }, element("h2", {}, "No jobs"), element("p", {}, "Indexing, repair, calibration and backups appear here while they run and for a week after."))]));
    if (focused) list.querySelector(`[data-job="${CSS.escape(focused)}"] button`)?.focus();
    if (jobs.some((job) => job.state === "queued" || job.state === "running")) wait = BUSY_MS;
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    failing = true;
    tell(error);
    if (error.status === 401) return;
    wait = Math.max(wait / 2, error.waitS * 1000);
  }
  timer = setTimeout(refresh, document.hidden ? IDLE_MS : wait);
}

async function doing(path, body = {}) {
  try {
    await change("POST", path, body);
    quiet();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    tell(error);
    return;
  }
  refresh();
}

form?.addEventListener("submit", (event) => {
  event.preventDefault();
  const given = Object.fromEntries(new FormData(form));
  doing("/jobs", given.kind === "backup" ? { kind: given.kind } : given);
});
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
