// Voice mode: a panel over the composer with a microphone, what the server hears, and how long everything takes. What is said
// and answered becomes messages of the conversation.

import { inWords } from "./api.js";
import { $, el, milliseconds } from "./dom.js";
import { LiveSession } from "./live.js";
import * as settings from "./settings.js";
import { openMicrophone } from "./sound.js";
import { answer as runTool, definitions } from "./tools.js";

const STEPS = [
  ["transcript", "words"],
  ["token", "first word"],
  ["sound", "first sound"],
];
const LOUDEST = 0.25; // of the level meter
const WORDS = {
  connecting: "Connecting …",
  idle: "Hold the button, or the space bar, and speak",
  open: "Speak: I am listening",
  hearing: "Listening …",
  thinking: "Thinking …",
  speaking: "Speaking: interrupt me any time",
};

let talk = null; // {session, microphone, openMic}
let held = false; // push to talk
let chat = null; // what the chat view lends: model(), history(), add(), paint(), done()
const turns = new Map(); // item of the server -> node of the conversation

export const isOpen = () => talk !== null;

/** `lent`: how messages get on the screen. */
export function setUp(lent) {
  chat = lent;
  $("voice-open").onclick = () => (talk ? close() : open(localStorage.getItem("lifecycle.voice") !== "push"));
  $("voice-close").onclick = close;
  $("voice-push").onclick = () => change(false);
  $("voice-mic").onclick = () => change(true);
  $("voice-interrupt").onclick = interrupt;
  const button = $("voice-talk");
  button.onpointerdown = (event) => {
    button.setPointerCapture(event.pointerId);
    press();
  };
  button.onpointerup = button.onpointercancel = release;
  document.addEventListener("keydown", (event) => event.code === "Space" && !event.repeat && spaceTalks(event) && press());
  document.addEventListener("keyup", (event) => event.code === "Space" && held && spaceTalks(event) && release());
}

/** Whether there is a server that hears, and a browser that can listen. */
export function setAvailable(available) {
  $("voice-open").hidden = !available || !navigator.mediaDevices?.getUserMedia;
}

function spaceTalks(event) {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName);
  if (!talk || talk.openMic || typing) return false;
  event.preventDefault();
  return true;
}

async function change(openMic) {
  localStorage.setItem("lifecycle.voice", openMic ? "mic" : "push");
  if (talk?.openMic === openMic) return;
  close();
  await open(openMic);
}

async function open(openMic) {
  $("voice").hidden = false;
  $("composer").hidden = true;
  $("voice-open").setAttribute("aria-pressed", "true");
  $("voice-push").setAttribute("aria-pressed", String(!openMic));
  $("voice-mic").setAttribute("aria-pressed", String(openMic));
  $("voice-talk").hidden = openMic;
  $("voice-problem").hidden = true;
  show("connecting");
  const session = new LiveSession();
  const mine = { session, openMic, microphone: null };
  talk = mine;
  session.addEventListener("event", ({ detail }) => talk === mine && receive(detail));
  session.addEventListener("latency", ({ detail }) => drawLatency(detail));
  session.addEventListener("closed", ({ detail }) => talk === mine && fail(detail.reason || "the server has ended the conversation"));
  try {
    const microphone = await openMicrophone(({ samples, level }) => listen(mine, samples, level));
    if (talk !== mine) return microphone.close();
    mine.microphone = microphone;
    const tools = definitions(settings.switchedOn(), $("tools").value);
    await session.open(chat.model(), openMic, { instructions: $("system").value.trim(), tools });
    if (talk !== mine) return;
    session.remember(chat.history());
    mine.ready = true;
    show(openMic ? "open" : "idle");
  } catch (error) {
    if (talk === mine) fail(inWords(error)); // else another conversation has begun, or none is wanted any more
  }
}

export function close() {
  if (!talk) return false;
  talk.microphone?.close();
  talk.session.close();
  talk = null;
  held = false;
  for (const node of turns.values()) chat.done(node);
  turns.clear();
  $("voice").hidden = true;
  $("composer").hidden = false;
  $("voice-open").setAttribute("aria-pressed", "false");
  $("prompt").focus({ preventScroll: true });
  return true;
}

function fail(words) {
  talk?.microphone?.close();
  talk?.session.close();
  if (talk) talk.ready = false;
  complain(words);
  show("idle");
}

function complain(words) {
  $("voice-problem").textContent = words;
  $("voice-problem").hidden = false;
}

function listen(mine, samples, level) {
  if (talk !== mine || !mine.ready) return;
  $("voice-level").style.setProperty("--level", Math.min(1, level / LOUDEST).toFixed(3));
  if (mine.openMic || held) mine.session.hear(samples);
  $("voice-interrupt").disabled = !mine.session.isAnswering;
}

function press() {
  if (!talk?.ready || held) return;
  held = true;
  talk.session.beginTurn();
  $("voice-talk").classList.add("held");
  show("hearing");
}

function release() {
  if (!held) return;
  held = false;
  $("voice-talk").classList.remove("held");
  talk.session.endTurn();
  show("thinking");
}

export function interrupt() {
  talk?.session.interrupt();
  rest();
}

const rest = () => show(talk?.openMic ? "open" : "idle");

function show(state) {
  $("voice").dataset.state = state;
  $("voice-state").textContent = WORDS[state];
}

function receive(event) {
  const node = turns.get(event.item_id ?? event.item?.id);
  switch (event.type) {
    case "input_audio_buffer.speech_started":
      show("hearing");
      break;
    case "input_audio_buffer.committed":
      show("thinking");
      break;
    case "conversation.item.input_audio_transcription.delta":
      said(event.item_id, "user", event.delta);
      break;
    case "conversation.item.input_audio_transcription.completed":
      if (event.transcript) chat.done(said(event.item_id, "user", "", event.transcript));
      else rest();
      break;
    case "conversation.item.input_audio_transcription.failed":
      complain(inWords(event.error));
      if (node) chat.done(node);
      rest();
      break;
    case "response.output_audio_transcript.delta":
      said(event.item_id, "assistant", event.delta);
      show("speaking");
      break;
    case "conversation.item.retrieved":
      if (node) {
        node.content = event.item.content[0].transcript || "…";
        node.facts = "interrupted";
        chat.done(node);
      }
      break;
    case "response.output_item.done":
      if (node && event.item.type === "message") chat.done(node);
      break;
    case "response.function_call_arguments.done":
      call(event);
      break;
    case "response.done":
      finished(event.response);
      break;
    case "error":
      $("voice-problem").textContent = inWords(event.error);
      $("voice-problem").hidden = event.error.code === "response_cancel_not_active";
      break;
  }
}

/** The message of an item, with more words. */
function said(item, role, more, all = null) {
  if (!turns.has(item)) turns.set(item, chat.add(role));
  const node = turns.get(item);
  node.content = all ?? node.content + more;
  chat.paint(node);
  return node;
}

function finished({ status, status_details: details }) {
  if (status === "failed") complain(inWords(details.error));
  if (talk.called) {
    talk.called = false;
    talk.session.send("response.create");
  } else if ($("voice").dataset.state !== "hearing") rest();
}

function call({ call_id: id, name, arguments: given }) {
  const result = runTool({ function: { name, arguments: given } }, settings.switchedOn(), $("tools").value);
  talk.session.result(id, result ?? "error: nobody answers this tool in voice mode");
  talk.called = true;
}

/** How long everything took since the last word. */
function drawLatency(marks) {
  const longest = Math.max(...STEPS.map(([name]) => (marks[name] ?? marks.end) - marks.end), 1);
  const rows = STEPS.map(([name, label]) => {
    const took = name in marks ? Math.max(0, marks[name] - marks.end) : undefined;
    return el("div.latency", {}, el("span", {}, label), el("i", { "--share": (took ?? 0) / longest }), el("b", {}, milliseconds(took)));
  });
  $("voice-latency").replaceChildren(el("p.caption", {}, "after the last word"), ...rows);
  $("voice-latency").dataset.sound = String("sound" in marks);
}
