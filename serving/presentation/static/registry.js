// The registry view: lineage, one version's facts and report card, what two versions differ in,
// and who becomes production.

import { getJSON, inWords, postJSON } from "./api.js";
import { $, bytes, el } from "./dom.js";
import { lineageGraph } from "./lineage.js";
import { markdown } from "./markdown.js";
import { isRefusal, notice, refusal } from "./notice.js";

const STATES = { running: "under way", done: "done", refused: "refused by the report card", failed: "failed" };
const LOOK = 700; // milliseconds between two looks at a job
const SECTIONS = ["Report card", "Facts", "Model card", "Difference"];

let overview = null;
let chosen = null; // refs
let other = null;
let section = SECTIONS[0];
let job = { state: "idle", lines: [] };
let visible = false;

export async function show() {
  visible = true;
  await load();
  if (job.state === "running") watch();
}

export function hide() {
  visible = false;
}

async function load() {
  try {
    [overview, job] = await Promise.all([getJSON("registry"), getJSON("registry/job")]);
  } catch (error) {
    $("registry").classList.toggle("closed", isRefusal(error) || !overview);
    tell(refusal(error));
    return;
  }
  $("registry").classList.remove("closed");
  const known = overview.versions.map((version) => version.ref);
  if (!known.includes(chosen))
    chosen = overview.aliases.production ?? overview.served[0]?.version ?? known.at(-1) ?? null;
  if (!known.includes(other)) other = overview.versions.find((version) => version.ref === chosen)?.parents[0] ?? null;
  const behind = overview.behind.map(
    ({ alias, serves, registry }) =>
      `This server still answers ${alias} with ${serves}; in the registry it is ${registry} now.`,
  );
  tell(...(behind.length ? [notice(`${behind.join(" ")} Serve it anew to follow.`)] : []));
  draw();
}

function tell(...notices) {
  $("registry-notice").replaceChildren(...notices);
}

function choose(ref, compare) {
  if (compare) {
    other = ref;
    section = "Difference";
  } else {
    chosen = ref;
  }
  draw();
  $("lineage")
    .querySelector(`[data-ref="${CSS.escape(ref)}"]`)
    ?.focus();
}

function draw() {
  if (!overview.versions.length) {
    $("lineage").replaceChildren(
      el("p.caption", {}, "Nothing is registered yet: lifecycle run makes the first versions."),
    );
    $("version").hidden = true;
    return;
  }
  $("version").hidden = false;
  $("lineage").replaceChildren(lineageGraph(overview.versions, chosen, other, choose));
  bringIntoSight(chosen);
  drawVersion();
}

/** On a narrow screen the graph is wider than its box. */
function bringIntoSight(ref) {
  const box = $("lineage").getBoundingClientRect();
  const node = $("lineage").querySelector(`[data-ref="${CSS.escape(ref)}"]`).getBoundingClientRect();
  if (node.right > box.right) $("lineage").scrollLeft += node.right - box.right;
  if (node.left < box.left) $("lineage").scrollLeft -= box.left - node.left;
}

async function drawVersion() {
  const version = overview.versions.find((one) => one.ref === chosen);
  const body = el("div");
  const view = [head(version), jobLine(), version.problem ? el("p.why", {}, version.problem) : sections(), body].filter(
    Boolean,
  );
  $("version").replaceChildren(...view);
  if (version.problem) return;
  try {
    const drawn = await { "Report card": reportCard, Facts: facts, "Model card": modelCard, Difference: difference }[
      section
    ](version);
    if (chosen === version.ref) body.replaceChildren(...drawn);
  } catch (error) {
    body.replaceChildren(el("p.why", {}, inWords(error)));
  }
}

function head(version) {
  const isProduction = overview.aliases.production === version.ref;
  const pills = [
    ...version.aliases.map((alias) => el("span.pill", {}, alias)),
    version.served_as && el("span.pill", {}, `served as ${version.served_as}`),
    version.stage && el("span.pill.still", {}, version.stage),
  ].filter(Boolean);
  const promote = el(
    "button.primary",
    { type: "button", id: "promote", disabled: job.state === "running", onclick: () => start("promote") },
    "Promote to production",
  );
  const offered = !version.problem && !isProduction && version.refusal === null;
  const why =
    !isProduction && version.refusal ? el("p.why", { id: "refusal" }, `Not for production: ${version.refusal}`) : null;
  return el("div.version-head", {}, el("h2", {}, version.ref), pills, el("span.spacer"), offered && promote, why);
}

function jobLine() {
  if (job.state === "idle") return null;
  const name = { report: "Report card", promote: "Promotion" }[job.kind];
  const text = `${name} of ${job.ref}: ${STATES[job.state]}`;
  return el(`p.job.${job.state}`, { id: "job", role: "status" }, [text, ...job.lines].join(" · "));
}

function sections() {
  const buttons = SECTIONS.map((name) =>
    el(
      "button",
      {
        type: "button",
        "aria-pressed": String(name === section),
        onclick: () => {
          section = name;
          drawVersion();
        },
      },
      name,
    ),
  );
  return el("div.inner-tabs", { role: "group", "aria-label": "About this version" }, buttons);
}

// -- what there is to see of a version --------------------------------------------------------------------------------

const details = (version) => getJSON(`registry/versions/${version.ref.split("/").map(encodeURIComponent).join("/")}`);

async function reportCard(version) {
  const { report } = await details(version);
  if (report)
    return [
      el("div.skills", {}, report.rows.map(skill)),
      el("p.caption", {}, `${report.rows[0].n} held-out tasks a skill; thin bar: 95% interval; orange line: chance`),
    ];
  const button = el(
    "button.quiet",
    { type: "button", id: "score", disabled: job.state === "running", onclick: () => start("report") },
    "Score it now",
  );
  return [
    el("p.caption", {}, "Not scored since the server started. It takes a moment, on the same cores that serve."),
    el("p", {}, button),
  ];
}

function skill(row) {
  const track = el(
    "div.track",
    { "--value": row.value, "--low": row.low, "--high": row.high, "--chance": row.chance },
    el("div.value"),
    el("div.interval"),
    el("div.chance"),
  );
  const name = row.skill.replaceAll("_", " ");
  return el(
    "div.skill",
    {},
    el("span", {}, name, row.lower_is_better && el("small", {}, " lower is better")),
    track,
    el("b", {}, `${Math.round(100 * row.value)}%`),
  );
}

async function facts(version) {
  const found = await details(version);
  const making = {
    created: found.created,
    preset: found.preset,
    parents: found.parents.join(", "),
    data: found.data && found.data.id,
    seed: found.seed,
    seconds: found.seconds,
    commit: found.commit,
    manifest: found.manifest,
  };
  const files = Object.fromEntries(Object.entries(found.files).map(([name, size]) => [name, bytes(size)]));
  const tables = [
    ["How it was made", making],
    ["Metrics", found.metrics],
    ["Config", found.config],
    ["Cost", found.cost],
    ["Files", files],
  ];
  return tables
    .filter(([, values]) => Object.keys(values).length)
    .map(([title, values]) => table(title, Object.entries(values)));
}

async function modelCard(version) {
  const { card } = await details(version);
  return [el("div.prose", {}, markdown(card || "This version has no card."))];
}

async function difference() {
  const options = overview.versions
    .filter((version) => version.ref !== chosen)
    .map((version) => new Option(version.ref, version.ref));
  if (!options.length) return [el("p.caption", {}, "There is no other version to compare with.")];
  const select = el("select", { id: "other", "aria-label": "Compare with" }, options);
  if (options.some((option) => option.value === other)) select.value = other;
  other = select.value;
  select.onchange = () => {
    other = select.value;
    draw();
  };
  const found = await getJSON(`registry/diff?a=${encodeURIComponent(other)}&b=${encodeURIComponent(chosen)}`);
  const tables = Object.entries(found.sections).map(([title, rows]) => changes(title, rows));
  const head = el("p", {}, "From ", select, ` to ${chosen}`);
  return [head, ...(tables.length ? tables : [el("p.caption", {}, "They do not differ.")])];
}

function table(title, rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== "" && value !== undefined);
  return el(
    "table.facts-table",
    {},
    el("caption", {}, title),
    el(
      "tbody",
      {},
      shown.map(([key, value]) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, written(value)))),
    ),
  );
}

function changes(title, rows) {
  const row = ([key, was, is]) =>
    el("tr", {}, el("th", { scope: "row" }, key), el("td.was", {}, written(was)), el("td.is", {}, written(is)));
  return el("table.facts-table", {}, el("caption", {}, title), el("tbody", {}, rows.map(row)));
}

function written(value) {
  if (value === null || value === undefined) return "–";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 220 ? `${text.slice(0, 219)}…` : text;
}

// -- jobs -------------------------------------------------------------------------------------------------------------

async function start(kind) {
  try {
    job = await postJSON(`registry/${kind}`, { ref: chosen });
    drawVersion();
    watch();
  } catch (error) {
    tell(refusal(error));
  }
}

async function watch() {
  while (visible && job.state === "running") {
    await new Promise((go) => setTimeout(go, LOOK));
    try {
      job = await getJSON("registry/job");
    } catch (error) {
      tell(refusal(error));
      return;
    }
  }
  if (visible) load();
}
