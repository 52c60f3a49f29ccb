// The chat view: what is said, by whom, along which branch; and the tools that run in between.

import { getJSON, inWords } from "./api.js";
import * as attachments from "./attachments.js";
import { changedElsewhere, Conversation, deletedElsewhere, forget, freshId, listed, load, whole } from "./conversation.js";
import { $, el } from "./dom.js";
import * as feedback from "./feedback.js";
import * as gaze from "./gaze.js";
import { duelView, messageView, paint } from "./message.js";
import * as settings from "./settings.js";
import { streamInto } from "./stream.js";
import { answer as runTool } from "./tools.js";
import * as voice from "./voice.js";

const MOST_ROUNDS = 8; // of tools that run by themselves, for one question

let conversation = new Conversation();
let running = []; // AbortControllers of the answers being written
let comparing = false;
let model = () => undefined; // as /v1/models describes it
let modelIsGone = () => {};

const chosenModel = () => model()?.id;

// -- asking -------------------------------------------------------------------------------------------------------

async function send(text) {
  if (running.length || attachments.isReading() || (!text.trim() && attachments.isEmpty())) return;
  const last = conversation.path().at(-1);
  const shown = attachments.take();
  const user = conversation.add(last?.id ?? 0, { role: "user", content: text, ...(shown.parts.length && shown) });
  $("prompt").value = "";
  await reply(user.id);
}

/** Answers the message `parent`: once, or twice to compare. */
async function reply(parent) {
  const first = { model: chosenModel() };
  if (!comparing) return settle(await generate(conversation.add(parent, fresh(first)), {}));
  const second = { model: $("rival").value || first.model };
  const duel = freshId();
  const other = conversation.add(parent, { ...fresh(second), duel });
  const one = conversation.add(parent, { ...fresh(first), duel });
  one.running = other.running = true;
  const temperature = $("rival-temperature").value;
  await Promise.all([
    generate(one, {}),
    generate(other, temperature === "" ? {} : { temperature: Number(temperature) }),
  ]);
  return draw();
}

const fresh = ({ model }) => ({ role: "assistant", content: "", model });

/** Streams one answer into `node`; whatever happens ends up in it. */
async function generate(node, changes) {
  const here = conversation; // another one may be open by the time the answer ends
  const control = new AbortController();
  running.push(control);
  node.running = true;
  here.save();
  draw();
  try {
    const request = { model: node.model, messages: messages(node.parent), ...settings.fields(), ...changes };
    if (request.response_format) node.verbatim = true; // a * or _ in JSON is no Markdown
    // What had to be called has been called: now the model may use the result.
    if (request.tool_choice === "required" && here.nodes.get(node.parent).role === "tool") delete request.tool_choice;
    await streamInto(node, request, control.signal, () => schedulePaint(node));
  } catch (error) {
    if (error.name !== "AbortError") node.error = { message: inWords(error), param: error.param };
    if (error.status === 404) modelIsGone();
  } finally {
    delete node.running;
    running = running.filter((one) => one !== control);
    if (node.error || control.signal.aborted) delete node.tool_calls; // a call that was cut short is none
    if (node.tokens?.length) node.asTokens = true;
    here.save();
    draw();
  }
  return node;
}

/** What the model is sent: system prompt, then the branch that ends with `id`. */
function messages(id) {
  const system = $("system").value.trim();
  const said = conversation
    .upTo(id)
    .filter((node) => node.content || node.thought || node.parts || node.tool_calls || node.role === "tool")
    .map(({ role, content, thought, parts, tool_calls: calls, tool_call_id: call }) => ({
      role,
      content: parts ? [...parts, ...(content ? [{ type: "text", text: content }] : [])] : content,
      ...(thought && { reasoning_content: thought }),
      ...(calls && { tool_calls: calls }),
      ...(call && { tool_call_id: call }),
    }));
  return [...(system ? [{ role: "system", content: system }] : []), ...said];
}

// -- tools --------------------------------------------------------------------------------------------------------

/** After an answer: runs the tools it calls that this page can run, and goes on when every call has its result. */
async function settle(node) {
  if (!node.tool_calls) return;
  const rounds = conversation.upTo(node.id).reverse();
  const since = rounds
    .slice(
      0,
      rounds.findIndex((one) => one.role === "user"),
    )
    .filter((one) => one.tool_calls).length;
  node.results ??= {};
  for (const call of node.tool_calls) {
    const result = since > MOST_ROUNDS ? null : runTool(call, settings.switchedOn(), $("tools").value);
    if (result !== null) node.results[call.id] ??= result;
  }
  await goOn(node);
}

async function goOn(node) {
  conversation.save();
  draw();
  if (!node.tool_calls.every((call) => call.id in node.results)) return;
  let parent = node.id;
  for (const call of node.tool_calls) {
    parent = conversation.add(parent, { role: "tool", tool_call_id: call.id, content: node.results[call.id] }).id;
  }
  await reply(parent);
}

// -- what a message offers ------------------------------------------------------------------------------------------

const act = {
  redraw: () => draw(),
  /** Whether an answer can be judged: what is kept of a conversation is its text. */
  judged: (node) => feedback.isAvailable() && conversation.upTo(node.id).every((one) => !one.parts && !one.unkept),
  /** Whether it makes sense to ask where the model looked as it wrote an answer. */
  looked: (node) => node.content && !node.tool_calls && !node.error && shown(node).length > 0,
  async look(node) {
    delete node.note;
    if (node.gaze) node.asGaze = !node.asGaze;
    else await ask(node);
    draw();
  },
  turn(node, step) {
    if (running.length) return;
    conversation.turn(node, step);
    conversation.save();
    draw();
  },
  regenerate(node) {
    if (!running.length) reply(node.parent);
  },
  edit(node, text) {
    const { parts, strips } = node;
    if (!running.length)
      reply(conversation.add(node.parent, { role: "user", content: text, ...(parts && { parts, strips }) }).id);
  },
  result(node, call, text) {
    if (running.length) return;
    (node.results ??= {})[call.id] = text;
    goOn(node);
  },
  async rate(node, rating) {
    const here = conversation;
    await keep(
      node,
      () => feedback.thumb(messages(node.parent), node, rating),
      () => (node.rating = rating),
    );
    here.save();
    draw();
  },
  /** The corrected text is a branch beside the answer, and the conversation goes on from it. */
  async correct(node, text) {
    const here = conversation;
    if (running.length || text === node.content) return draw();
    const better = here.add(node.parent, { ...fresh(node), content: text, thought: node.thought, corrected: true, facts: "corrected" });
    draw();
    await keep(better, () => feedback.correction(messages(node.parent), node, text));
    here.save();
    draw();
  },
  async choose(nodes, chosen) {
    const here = conversation;
    const winner = nodes[chosen ?? 0];
    for (const node of nodes) delete node.duel;
    conversation.shown[winner.parent] = winner.id;
    draw();
    if (act.judged(winner) && !nodes.some((node) => node.error))
      await keep(winner, () => feedback.comparison(messages(winner.parent), nodes, chosen));
    here.save();
    draw();
    if (here === conversation && !running.length) settle(winner);
  },
};

/** The pictures and clips that the model had seen when it wrote an answer. */
const shown = (node) => conversation.upTo(node.parent).flatMap((one) => one.parts ?? []);

async function ask(node) {
  try {
    const { tools } = settings.fields();
    const request = { model: node.version ?? node.model, messages: messages(node.parent), ...(tools && { tools }) };
    node.gaze = await gaze.ask({ ...request, answer: whole(node) }, shown(node));
    node.asGaze = true;
  } catch (error) {
    node.note = inWords(error);
  }
}

async function keep(node, store, kept = () => {}) {
  try {
    await store();
    kept();
    node.note = "Thank you: kept";
  } catch (error) {
    node.note = `Not kept: ${inWords(error)}`;
  }
}

// -- what is spoken ------------------------------------------------------------------------------------------------

/** What a live conversation has to know: text alone, without the system prompt, which it is told by itself. */
const spoken = () =>
  conversation
    .path()
    .filter(({ role, content, tool_calls: calls }) => role !== "tool" && content && !calls)
    .map(({ role, content }) => ({ role, content }));

/** A message that is being spoken; `schedulePaint` shows its words as they come. */
function addSpoken(role) {
  const last = conversation.path().at(-1);
  const node = conversation.add(last?.id ?? 0, role === "user" ? { role, content: "" } : fresh({ model: chosenModel() }));
  node.running = true;
  draw();
  toEnd();
  return node;
}

function settleSpoken(node) {
  delete node.running;
  conversation.title ||= node.content.slice(0, 60);
  conversation.save();
  draw();
}

// -- showing it ---------------------------------------------------------------------------------------------------

const due = new Set(); // nodes that grew since the last picture

function schedulePaint(node) {
  if (!due.size) requestAnimationFrame(paintDue);
  due.add(node);
}

function paintDue() {
  const pinned = nearEnd();
  for (const node of due) {
    const article = $("messages").querySelector(`[data-node="${node.id}"]`);
    if (article) paint(article, node);
  }
  due.clear();
  if (pinned) toEnd();
}

function draw() {
  const pinned = nearEnd();
  const path = conversation.path();
  const views = path
    .filter((node) => node.role !== "tool")
    .map((node) => {
      const siblings = conversation.siblings(node);
      const rivals = siblings.filter((one) => one.duel && one.duel === node.duel);
      return rivals.length === 2 ? duelView(rivals.reverse(), act) : messageView(node, siblings, act);
    });
  const written = unfinished();
  $("messages").replaceChildren(...views);
  written?.restore();
  $("welcome").hidden = path.length > 0;
  document.body.classList.toggle("busy", running.length > 0);
  $("send").title = running.length ? "Stop (Esc)" : "Send (Enter)";
  $("send").setAttribute("aria-label", running.length ? "Stop" : "Send");
  fitPrompt();
  drawHistory();
  if (pinned || running.length) toEnd();
}

/** A message that is being edited, or a result being typed, lives through a new picture of the conversation. */
function unfinished() {
  const editor = $("messages").querySelector(".editor");
  if (!editor) return null;
  const article = editor.closest(".message");
  const field = editor.contains(document.activeElement) ? document.activeElement : null;
  return {
    restore() {
      $("messages").querySelector(`[data-node="${article.dataset.node}"]`)?.replaceWith(article);
      if (article.isConnected) field?.focus();
    },
  };
}

function drawHistory() {
  const entries = listed().map(({ id, title }) =>
    el(
      id === conversation.id ? "li.current" : "li",
      {},
      el(
        "button",
        { type: "button", onclick: () => open(load(id)), "aria-current": id === conversation.id ? "true" : null },
        title || "Untitled",
      ),
      el("button.tiny", { type: "button", "aria-label": `Delete ${title}`, onclick: () => remove(id) }, "×"),
    ),
  );
  $("conversations").replaceChildren(...entries);
}

function open(found) {
  stop();
  voice.close();
  conversation = found ?? new Conversation();
  toggleHistory(false);
  draw();
  toEnd();
  $("prompt").focus({ preventScroll: true });
}

function remove(id) {
  forget(id);
  if (id !== conversation.id) return drawHistory();
  conversation.forgotten = true; // an answer on its way must not bring it back
  open(null);
}

/** Another tab has gone on with a conversation: follow it, unless an answer is being written here. */
function follow(event) {
  if (deletedElsewhere(event) === conversation.id) conversation.forgotten = true; // stays on screen, and is not brought back
  if (changedElsewhere(event) !== conversation.id) return drawHistory();
  if (running.length) conversation.id = freshId(); // both go on, each with a copy of its own
  else conversation = load(conversation.id) ?? conversation;
  draw();
}

export function stop() {
  for (const control of running) control.abort();
}

const nearEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 80;

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
}

function fitPrompt() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
  const nothing = !prompt.value.trim() && attachments.isEmpty();
  $("send").disabled = !running.length && (nothing || attachments.isReading());
}

function toggleHistory(wanted = !$("history").classList.contains("open")) {
  $("history").classList.toggle("open", wanted);
  $("history-toggle").setAttribute("aria-expanded", String(wanted));
}

/** Esc: closes what lies over the page, else stops the answers. */
export function escape() {
  if (attachments.putCameraAway() || voice.close()) return;
  if (running.length) stop();
  else if ($("history").classList.contains("open")) toggleHistory(false);
  else if (settings.isOpen()) settings.toggle(false);
}

export function showExamples(examples) {
  const buttons = examples.map((text) => el("button", { type: "button", onclick: () => send(text) }, text));
  $("examples").replaceChildren(...buttons);
}

/** `chosen` tells, whenever it is asked, which model is chosen; `gone` is called when the server has it no more. */
export function setUp(chosen, gone) {
  model = chosen;
  modelIsGone = gone;
  settings.setUp();
  attachments.setUp(fitPrompt);
  voice.setUp({ model: chosenModel, history: spoken, add: addSpoken, paint: schedulePaint, done: settleSpoken });
  $("composer").onsubmit = (event) => {
    event.preventDefault();
    if (running.length) stop();
    else send($("prompt").value);
  };
  $("prompt").oninput = fitPrompt;
  $("prompt").onkeydown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send($("prompt").value);
  };
  $("compare").onclick = () => {
    comparing = !comparing;
    $("compare").setAttribute("aria-pressed", String(comparing));
  };
  $("new").onclick = () => open(null);
  $("history-toggle").onclick = () => toggleHistory();
  window.addEventListener("storage", follow);
  window.addEventListener("pagehide", () => conversation.save());
  const [latest] = listed();
  open(latest ? load(latest.id) : null);
}

/** Examples, and what this server can do. */
export async function loadExamples() {
  const found = await getJSON("examples");
  feedback.setAvailable(found.feedback);
  voice.setAvailable(found.voice);
  showExamples(found.examples);
  draw();
  return found;
}
