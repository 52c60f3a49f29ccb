// The chat page: a client of /v1/chat/completions like any other, plus /stats for the engine strip.

const $ = (id) => document.getElementById(id);
const conversation = []; // {role, content}; an assistant's turn also has its view
let running = null; // the AbortController of the answer being written
let models = [];

// -- talking to the server ----------------------------------------------------------------------------------------

function headers() {
  const key = $("key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

async function getJSON(path) {
  const response = await fetch(path, { headers: headers() });
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  return body;
}

/** Yields the parsed data of each server-sent event; throws the server's message when the request is refused. */
async function* chatEvents(request, signal) {
  const response = await fetch("v1/chat/completions", {
    method: "POST",
    headers: headers(),
    body: JSON.stringify(request),
    signal,
  });
  if (!response.ok) {
    const body = await response.json().catch(() => ({}));
    throw new Error(body.error?.message ?? `the server answered ${response.status}`);
  }
  let held = "";
  for await (const text of decoded(response.body)) {
    const blocks = (held + text).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ")) continue;
      if (block === "data: [DONE]") return;
      yield JSON.parse(block.slice(6));
    }
  }
  throw new Error("the connection broke before the answer was complete");
}

async function* decoded(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

// -- a conversation -----------------------------------------------------------------------------------------------

async function send(text) {
  if (running || !text.trim()) return;
  addMessage("user", text);
  conversation.push({ role: "user", content: text });
  $("prompt").value = "";
  fitPrompt();
  await answer();
}

async function answer() {
  const view = addMessage("assistant", "");
  const clock = { sent: performance.now(), first: null, last: null, pieces: 0, tokens: null };
  const turn = { role: "assistant", content: "", view };
  running = new AbortController();
  showBusy(view);
  let ended = "";
  try {
    for await (const event of chatEvents(requestBody(), running.signal)) {
      if (event.error) throw new Error(event.error.message);
      clock.tokens = event.usage?.completion_tokens ?? clock.tokens;
      const choice = event.choices[0];
      ended = choice?.finish_reason ?? ended;
      if (choice?.delta.content) {
        clock.first ??= performance.now();
        clock.last = performance.now();
        clock.pieces += 1;
        turn.content += choice.delta.content;
        render(view, turn.content);
      }
      showFacts(view, clock, ended);
    }
  } catch (error) {
    ended = error.name === "AbortError" ? "stopped" : "error";
    if (ended === "error") showError(view, turn.content, inWords(error));
    else showFacts(view, clock, ended);
  } finally {
    running = null;
    conversation.push(turn);
    showBusy(null);
    view.classList.remove("writing");
    view.querySelector(".copy").onclick = () => copy(view, turn.content);
    view.querySelector(".again").onclick = regenerate;
    if (!turn.content) view.querySelector(".again").textContent = "Try again";
    $("prompt").focus({ preventScroll: true });
  }
}

function requestBody() {
  const system = $("system").value.trim();
  const said = conversation.filter((turn) => turn.content).map(({ role, content }) => ({ role, content }));
  const body = {
    model: $("model").value || undefined,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...said],
    stream: true,
    stream_options: { include_usage: true },
  };
  if ($("temperature").value !== "") body.temperature = Number($("temperature").value);
  if ($("max-tokens").value !== "") body.max_tokens = Number($("max-tokens").value);
  return body;
}

function regenerate() {
  const last = conversation.at(-1);
  if (running || last?.role !== "assistant") return;
  conversation.pop();
  last.view.remove();
  answer();
}

function stop() {
  running?.abort();
}

function startAgain() {
  stop();
  conversation.length = 0;
  $("messages").replaceChildren();
  $("welcome").hidden = false;
  $("prompt").focus();
}

// -- showing it ---------------------------------------------------------------------------------------------------

function addMessage(role, text) {
  $("welcome").hidden = true;
  const view = $("message-template").content.firstElementChild.cloneNode(true);
  view.classList.add(role);
  render(view, text);
  $("messages").append(view);
  $("scroll").scrollTop = $("scroll").scrollHeight;
  return view;
}

/** Text with code fences, `code` and **bold**; built from nodes, so nothing a model writes becomes markup. */
function render(view, text) {
  const pinned = $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 60;
  const nodes = text.split(/```[^\n]*\n?/).flatMap((part, index) => (index % 2 ? [element("pre", element("code", part))] : inline(part)));
  view.querySelector(".body").replaceChildren(...nodes);
  if (pinned) $("scroll").scrollTop = $("scroll").scrollHeight;
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (/^`.+`$/.test(part)) return element("code", part.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(part)) return element("strong", part.slice(2, -2));
    return document.createTextNode(part);
  });
}

function element(name, content) {
  const node = document.createElement(name);
  node.append(content);
  return node;
}

function showBusy(view) {
  document.body.classList.toggle("busy", view !== null);
  view?.classList.add("writing");
  $("send").title = view ? "Stop (Esc)" : "Send (Enter)";
  $("send").setAttribute("aria-label", view ? "Stop" : "Send");
  fitPrompt();
}

function showFacts(view, clock, ended) {
  if (clock.first === null) return;
  const tokens = clock.tokens ?? clock.pieces;
  const seconds = (clock.last - clock.first) / 1000;
  const wait = clock.first - clock.sent;
  const facts = [`${tokens} token${tokens === 1 ? "" : "s"}`];
  if (tokens > 1 && seconds > 0) facts.push(`${number((tokens - 1) / seconds)} tokens/s`);
  facts.push(`first token ${wait < 1000 ? `${Math.round(wait)} ms` : `${(wait / 1000).toFixed(1)} s`}`);
  const reasons = { length: "cut at its longest", stopped: "stopped" };
  if (reasons[ended]) facts.push(reasons[ended]);
  view.querySelector(".facts").textContent = facts.join("  ·  ");
}

function showError(view, text, message) {
  if (text) view.querySelector(".body").append(element("div", message));
  else render(view, message);
  view.classList.toggle("error", !text);
  view.querySelector(".body").lastElementChild?.classList.add("note");
}

function inWords(error) {
  if (error instanceof TypeError) return "The server cannot be reached. Is it still running?";
  const [first] = error.message.split(" ");
  const start = /^[a-z]+$/.test(first) ? first[0].toUpperCase() : first[0]; // but a field keeps its name
  return `${start}${error.message.slice(1)}.`;
}

function number(value) {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

async function copy(view, text) {
  const button = view.querySelector(".copy");
  await navigator.clipboard.writeText(text).then(
    () => (button.textContent = "Copied"),
    () => (button.textContent = "Not allowed here"),
  );
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

// -- the engine strip ---------------------------------------------------------------------------------------------

const rates = Array(60).fill(0); // the last minute
let before = null;

async function pollEngine() {
  if (document.hidden) return;
  try {
    const { models: engines } = await getJSON("stats");
    const now = performance.now();
    const engine = engines.find((one) => one.model === $("model").value) ?? engines[0];
    const grown = before?.model === engine.model ? engine.generated_tokens - before.tokens : 0;
    const rate = before ? Math.max(0, grown) / ((now - before.at) / 1000) : 0;
    before = { model: engine.model, tokens: engine.generated_tokens, at: now };
    showEngine(engine, rate);
  } catch {
    $("engine").classList.add("lost");
    $("policy").textContent = "server not reachable";
    before = null;
  }
}

function showEngine(engine, rate) {
  $("engine").classList.remove("lost");
  $("running").textContent = engine.running;
  $("waiting").textContent = engine.waiting;
  $("kv").textContent = `${(100 * engine.kv_usage).toFixed(engine.kv_usage < 0.1 ? 1 : 0)}%`;
  $("kv-used").style.width = `${100 * engine.kv_usage}%`;
  $("kv-cached").style.width = `${100 * engine.kv_cached}%`;
  $("rate").textContent = rate ? number(rate) : "0";
  $("policy").textContent = engine.policy;
  rates.push(rate);
  rates.shift();
  const top = Math.max(...rates, 1);
  const line = rates.map((value, index) => `${(index * 120) / 59},${22.5 - (20 * value) / top}`).join(" ");
  $("spark-line").setAttribute("points", line);
  $("spark-area").setAttribute("points", `0,24 ${line} 120,24`);
}

// -- models, examples, settings -----------------------------------------------------------------------------------

async function loadModels() {
  try {
    models = (await getJSON("v1/models")).data;
    const chosen = $("model").value;
    $("model").replaceChildren(...models.map((model) => new Option(model.id, model.id, false, model.id === chosen)));
    showModel();
  } catch (error) {
    $("welcome-model").textContent = "the model";
    $("lineage").textContent = inWords(error);
  }
}

function showModel() {
  const model = models.find((one) => one.id === $("model").value);
  $("welcome-model").textContent = model?.id ?? "the model";
  $("lineage").textContent = model ? [...new Set([...model.lineage].reverse().concat(model.version))].join(" → ") : "";
  $("lineage").title = "Where this model comes from";
}

async function loadExamples() {
  const { examples, needs_key: needsKey } = await getJSON("examples");
  $("key-field").hidden = !needsKey;
  if (needsKey && !$("key").value) toggleSettings(true);
  $("examples").replaceChildren(
    ...examples.map((text) => {
      const button = element("button", text);
      button.onclick = () => send(text);
      return button;
    }),
  );
}

function toggleSettings(open) {
  $("settings").hidden = !open;
  $("settings-toggle").setAttribute("aria-expanded", String(open));
}

function fitPrompt() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
  $("send").disabled = !running && !prompt.value.trim();
}

function keepSettings() {
  for (const id of ["system", "temperature", "max-tokens"]) {
    $(id).value = localStorage.getItem(id) ?? "";
    $(id).oninput = () => localStorage.setItem(id, $(id).value);
  }
  $("key").value = sessionStorage.getItem("key") ?? "";
  $("key").onchange = () => {
    sessionStorage.setItem("key", $("key").value);
    loadModels();
  };
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  if (running) stop();
  else send($("prompt").value);
};
$("prompt").oninput = fitPrompt;
$("prompt").onkeydown = (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send($("prompt").value);
};
$("settings").onsubmit = (event) => event.preventDefault();
$("settings-toggle").onclick = () => toggleSettings($("settings").hidden);
$("model").onchange = showModel;
$("new").onclick = startAgain;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
});

keepSettings();
fitPrompt();
await Promise.allSettled([loadModels(), loadExamples()]);
pollEngine();
setInterval(pollEngine, 1000);
