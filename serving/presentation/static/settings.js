// The settings panel: kept in this browser, and turned into the fields of a chat request.

import { $ } from "./dom.js";
import { definitions, EXAMPLE } from "./tools.js";

const NUMBERS = ["temperature", "max_tokens", "top_p", "top_k", "min_p", "seed", "repetition_penalty"];
const TEXTS = ["system", "stop", "tools", "tool_choice", "schema", "rival-temperature"];
const SWITCHES = ["logprobs", "tool-clock", "tool-calculator"];
const TOP_LOGPROBS = 5;

let open = false;

export function switchedOn() {
  return ["clock", "calculator"].filter((name) => $(`tool-${name}`).checked);
}

/** What the settings add to a request; throws an Error in words when a field of theirs cannot be read. */
export function fields() {
  const found = {};
  for (const name of NUMBERS) {
    const input = $(name);
    if (input.value === "" && !input.validity.badInput) continue;
    if (!input.validity.valid)
      throw new Error(`${input.closest("label").firstChild.textContent}: ${input.validationMessage}`);
    found[name] = Number(input.value);
  }
  if ($("stop").value) found.stop = $("stop").value;
  if ($("logprobs").checked) Object.assign(found, { logprobs: true, top_logprobs: TOP_LOGPROBS });
  const tools = read("tools", () => definitions(switchedOn(), $("tools").value));
  if (tools.length) {
    found.tools = tools;
    if ($("tool_choice").value) found.tool_choice = $("tool_choice").value;
  }
  if ($("schema").value.trim()) {
    const schema = read("schema", () => JSON.parse($("schema").value));
    found.response_format = { type: "json_schema", json_schema: { name: "answer", strict: true, schema } };
  }
  return found;
}

function read(name, parse) {
  try {
    const value = parse();
    $(`${name}-error`).hidden = true;
    return value;
  } catch (error) {
    $(`${name}-error`).textContent = `Not readable: ${error.message}`;
    $(`${name}-error`).hidden = false;
    throw new Error(`${name === "tools" ? "The tools" : "The schema"} cannot be read: ${error.message}`);
  }
}

/** Which modes are on, for the line below the message. */
function showModes() {
  const modes = [
    $("system").value.trim() && "system prompt",
    (switchedOn().length || $("tools").value.trim()) && "tools",
    $("schema").value.trim() && "schema",
    $("logprobs").checked && "tokens",
  ].filter(Boolean);
  $("modes").textContent = modes.join(" · ");
}

export function toggle(wanted = !open) {
  open = wanted;
  $("settings").hidden = !open;
  $("settings-toggle").setAttribute("aria-expanded", String(open));
  if (open) $("system").focus({ preventScroll: true });
}

export function isOpen() {
  return open;
}

export function setUp() {
  for (const name of [...NUMBERS, ...TEXTS]) $(name).value = localStorage.getItem(`lifecycle.${name}`) ?? $(name).value;
  for (const name of SWITCHES) $(name).checked = localStorage.getItem(`lifecycle.${name}`) === "true";
  for (const name of [...NUMBERS, ...TEXTS, ...SWITCHES]) {
    $(name).addEventListener("input", () => {
      localStorage.setItem(`lifecycle.${name}`, SWITCHES.includes(name) ? $(name).checked : $(name).value);
      showModes();
    });
  }
  for (const name of ["tools", "schema"]) {
    $(name).addEventListener("change", () => {
      try {
        fields();
      } catch {
        // shown below the field
      }
    });
  }
  $("tools-example").onclick = () => {
    $("tools").value = EXAMPLE;
    $("tools").dispatchEvent(new Event("input"));
  };
  $("settings-toggle").onclick = () => toggle();
  $("settings-close").onclick = () => {
    toggle(false);
    $("settings-toggle").focus();
  };
  showModes();
}
