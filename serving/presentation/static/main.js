// One screen, three views. This file starts them, and has what they share: tabs, model, theme, key, keyboard.

import { getJSON, inWords, isOutOfReach, onKeyWanted, setKey } from "./api.js";
import { offer } from "./attachments.js";
import * as chat from "./chat.js";
import { $ } from "./dom.js";
import * as engine from "./engine.js";
import * as registry from "./registry.js";

const VIEWS = { chat: null, engine, registry };
const RETRY = 2000; // milliseconds
let models = [];

// -- views ----------------------------------------------------------------------------------------------------------

const tabs = () => [...document.querySelectorAll('[role="tab"]')].filter((tab) => !tab.hidden);

function show(name) {
  for (const view of Object.keys(VIEWS)) {
    const chosen = view === name;
    $(view).hidden = !chosen;
    $(`tab-${view}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${view}`).tabIndex = chosen ? 0 : -1;
    if (!chosen) VIEWS[view]?.hide();
  }
  VIEWS[name]?.show(chosenModel(), models);
  if (location.hash.slice(1) !== name) history.replaceState(null, "", name === "chat" ? location.pathname : `#${name}`);
}

const current = () => Object.keys(VIEWS).find((view) => !$(view).hidden);

function showFromAddress() {
  const wanted = location.hash.slice(1);
  show(wanted in VIEWS && !$(`tab-${wanted}`).hidden ? wanted : "chat");
}

for (const view of Object.keys(VIEWS)) $(`tab-${view}`).onclick = () => show(view);
document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = tabs();
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  next.focus();
  next.click();
});
window.addEventListener("hashchange", showFromAddress);

// -- theme and keyboard ---------------------------------------------------------------------------------------------

$("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("lifecycle.theme", root.dataset.theme);
};

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName);
  if (event.key === "Escape" && document.activeElement === $("key")) $("key-form").hidden = true;
  else if (event.key === "Escape") chat.escape();
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    show("chat");
    $("prompt").focus();
  }
});

// -- models and key -------------------------------------------------------------------------------------------------

async function loadModels() {
  try {
    models = (await getJSON("v1/models")).data;
  } catch (error) {
    $("welcome-lineage").textContent = inWords(error);
    return error;
  }
  for (const id of ["model", "rival"]) {
    const before = $(id).value;
    const options = models.map((model) => new Option(model.id, model.id));
    const [was, is] = [[...$(id).options], options].map((all) => all.map((option) => option.value).join());
    if (was === is) continue; // an open menu stays open
    $(id).replaceChildren(...options);
    if (models.some((model) => model.id === before)) $(id).value = before;
  }
  showModel();
  return null;
}

/** The models again: some may have been loaded or unloaded. */
async function refresh() {
  const before = $("model").value;
  await loadModels();
  if (current() === "engine" && $("model").value !== before) show("engine");
}

const chosenModel = () => models.find((one) => one.id === $("model").value);

let offered;

function showModel() {
  const model = chosenModel();
  if (model?.id !== offered) offer(model); // or what is attached already would be gone
  offered = model?.id;
  if (!model) return;
  $("welcome-model").textContent = model.id;
  $("welcome-lineage").textContent = [...model.lineage].reverse().join(" → ") || model.version;
}

onKeyWanted(() => {
  if (!$("key-form").hidden) return;
  $("key-form").hidden = false;
  $("key").focus();
});
$("key-form").onsubmit = async (event) => {
  event.preventDefault();
  setKey($("key").value);
  $("key-form").hidden = true;
  await loadModels();
  $("prompt").focus();
  if (current() !== "chat") show(current());
};
$("model").onchange = () => {
  showModel();
  if (current() === "engine") show("engine");
};

engine.onModelGone(refresh);
chat.setUp(chosenModel, refresh);
document.addEventListener("visibilitychange", () => document.hidden || refresh());

async function start() {
  const [missing, about] = await Promise.allSettled([loadModels(), chat.loadExamples()]);
  if ([missing.value, about.reason].some((error) => error && isOutOfReach(error))) setTimeout(start, RETRY);
  $("tab-registry").hidden = !about.value?.registry;
  showFromAddress();
}

start();
