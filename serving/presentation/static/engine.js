// The engine view: follows /engine/events for as long as it is on screen.

import { events, getJSON, inWords, postJSON } from "./api.js";
import { drawBlocks } from "./blocks.js";
import { $, colour, el, figure, milliseconds, sharp } from "./dom.js";
import { isRefusal, refusal } from "./notice.js";
import { Timeline } from "./timeline.js";

const RETRY = 2000; // milliseconds after a failure
const AGAIN = 200; // milliseconds after a stream that came to its end: a model or a server was taken away
const NEWEST = 7; // requests that are listed
const RATES = 100; // frames behind the little curve

const timeline = new Timeline($("timeline"));
let following = null; // AbortController
let model; // name of the one whose engine it is
let modelIsGone = () => {};
let rates = [];
let requests = new Map(); // number -> {prompt, most, state, tokens}
let blocks = null;

/** `gone` is called when the server has the model no more. */
export function onModelGone(gone) {
  modelIsGone = gone;
}

/** The engine of the chosen model, as /v1/models describes it: an adapter answers through its parent's. */
export function show(chosen, models) {
  hide();
  const name = chosen?.parent ?? chosen?.id;
  if (name !== model) forget();
  model = name;
  const adapters = models.filter((one) => one.parent === name).map((one) => one.id);
  $("engine-of").textContent = [name, adapters.length && `with ${adapters.join(", ")}`].filter(Boolean).join(" ");
  following = new AbortController();
  follow(following);
  loadPolicies();
  animate(following);
}

export function hide() {
  following?.abort();
  following = null;
}

function refused(error) {
  $("engine").classList.toggle("closed", error !== null);
  $("engine-notice").replaceChildren(...(error ? [refusal(error)] : []));
}

function forget() {
  timeline.clear();
  rates = [];
  requests = new Map();
  blocks = null;
}

async function follow(control) {
  while (!control.signal.aborted) {
    let pause = AGAIN;
    try {
      const address = `engine/events${model ? `?model=${encodeURIComponent(model)}` : ""}`;
      for await (const { name, data } of events(address, { signal: control.signal })) {
        state("live");
        refused(null);
        if (name === "snapshot") begin(data);
        if (name === "frame") take(data);
        if (name === "blocks") blocks = data;
      }
    } catch (error) {
      if (control.signal.aborted) return;
      state(inWords(error), true);
      if (isRefusal(error)) return refused(error);
      if (error.status === 404) return modelIsGone();
      if (error.status === 400) return; // asking again would not help
      pause = RETRY;
    }
    await new Promise((go) => setTimeout(go, pause));
  }
}

/** The stream begins with what the ring still holds, so what was drawn before comes again. */
function begin({ policy, running, waiting, kv_usage: used }) {
  forget();
  $("policy").value = policy;
  $("fig-rate").textContent = "0";
  $("fig-running").textContent = running;
  $("fig-waiting").textContent = `${waiting} waiting`;
  $("fig-kv").textContent = share(used);
  for (const [name, none] of [["ttft", "no request yet"], ["itl", "no token yet"]]) {
    $(`fig-${name}`).textContent = "–";
    $(`fig-${name}-more`).textContent = none;
  }
  $("timeline-text").textContent = "";
}

function take(frame) {
  if (frame.lost) forget();
  for (const [number, , prompt, most] of frame.arrivals)
    requests.set(number, { prompt, most, state: "waiting", tokens: 0 });
  for (const [, number, kind, , , tokens, steps] of frame.bars) {
    const request = requests.get(number);
    if (!request) continue;
    request.state = kind === "p" ? "prefill" : "decode";
    if (kind === "d") request.tokens += Math.max(tokens, steps);
  }
  for (const [number, reason, tokens] of frame.ends) {
    const request = requests.get(number);
    if (request) Object.assign(request, { state: reason, tokens });
  }
  requests = new Map([...requests].slice(-4 * NEWEST));
  timeline.add(frame.bars);
  if (frame.time !== undefined) figures(frame);
  queue();
}

function figures(frame) {
  rates = [...rates, frame.tokens_per_second].slice(-RATES);
  $("fig-rate").textContent = figure(frame.tokens_per_second);
  $("fig-running").textContent = frame.running;
  $("fig-waiting").textContent = `${frame.waiting} waiting`;
  latency("ttft", frame.ttft_ms);
  latency("itl", frame.itl_ms);
  $("fig-kv").textContent = share(frame.kv_used / frame.kv_total);
  $("fig-kv-more").textContent = `${frame.kv_used} of ${frame.kv_total}, ${frame.kv_cached} cached`;
  const times = frame.preemptions === 1 ? "preemption" : "preemptions";
  const evicted = frame.preemptions ? `, ${frame.preemptions} ${times} so far` : "";
  $("timeline-text").textContent =
    `Step ${frame.step.toLocaleString("en")}: ${frame.running} running, ${frame.waiting} waiting${evicted}`;
}

function latency(name, { p50, p90, p99 }) {
  if (p50 === undefined) return;
  $(`fig-${name}`).textContent = milliseconds(p50);
  $(`fig-${name}-more`).textContent = `p90 ${milliseconds(p90)} · p99 ${milliseconds(p99)}`;
}

const share = (value) => `${(100 * value).toFixed(value && value < 0.1 ? 1 : 0)}%`;

function queue() {
  const rows = [...requests].slice(-NEWEST).reverse();
  $("queue").replaceChildren(
    ...rows.map(([number, { prompt, state: now, tokens }]) =>
      el("li", {}, el("b", {}, `#${number + 1}  ${now}`), el("span", {}, `${prompt} → ${tokens} tokens`)),
    ),
  );
}

function state(text, lost = false) {
  $("engine-state").textContent = text;
  $("engine-state").classList.toggle("lost", lost);
}

function animate(control) {
  if (control.signal.aborted) return;
  timeline.draw();
  spark();
  if (blocks) {
    drawBlocks($("blocks"), blocks);
    const each = blocks.per_cell > 1 ? `, ${blocks.per_cell} in a cell` : "";
    const part = blocks.shown < blocks.total ? `the first ${blocks.shown.toLocaleString("en")} of ` : "";
    $("blocks-text").textContent = `${part}${blocks.total.toLocaleString("en")} blocks${each}`;
  }
  requestAnimationFrame(() => animate(control));
}

function spark() {
  const { pen, width, height } = sharp($("spark"));
  const top = Math.max(...rates, 1);
  pen.strokeStyle = colour("--accent");
  pen.lineWidth = 1.5;
  pen.beginPath();
  rates.forEach((rate, at) => pen.lineTo((at * width) / (RATES - 1), height - 2 - ((height - 4) * rate) / top));
  pen.stroke();
}

async function loadPolicies() {
  try {
    const { policies, models } = await getJSON("admin/policy");
    $("policy").replaceChildren(...policies.map((name) => new Option(name, name)));
    $("policy").value = (models.find((one) => one.model === model) ?? models[0]).policy;
    $("policy").disabled = false;
  } catch (error) {
    $("policy").disabled = true;
    $("policy-text").textContent = inWords(error);
  }
}

$("policy").onchange = async () => {
  try {
    await postJSON("admin/policy", { policy: $("policy").value, ...(model && { model }) });
    $("policy-text").textContent = `${$("policy").value} since this step; requests in flight go on.`;
  } catch (error) {
    $("policy-text").textContent = inWords(error);
    loadPolicies();
  }
};

$("freeze").onclick = () => {
  timeline.held = !timeline.held;
  $("freeze").setAttribute("aria-pressed", String(timeline.held));
};
