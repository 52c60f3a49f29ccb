// How one message looks, and what can be done with it. `act` has the deeds: edit, regenerate,
// turn, rate, choose, correct, result, look.

import { inWords } from "./api.js";
import { view } from "./attachments.js";
import { el, svg } from "./dom.js";
import { gazeView } from "./gaze.js";
import { markdown } from "./markdown.js";
import { tokenView } from "./tokens.js";

/** The whole view of a message. `siblings` are the branches at its place. */
export function messageView(node, siblings, act) {
  const article = el(`article.message.${node.role}`, { "aria-label": node.role === "user" ? "You" : "Answer" });
  article.dataset.node = node.id;
  article.append(...attached(node), el("div.thinking"), el("div.body"), el("div.calls"), el("div.meta"));
  paint(article, node);
  meta(article, node, siblings, act);
  calls(article, node, act);
  article.classList.toggle("writing", Boolean(node.running));
  return article;
}

/** The pictures and clips of a message. */
function attached(node) {
  if (node.unkept) return [el("p.caption", {}, `This browser had no room to keep what was attached here (${node.unkept})`)];
  return node.parts ? [el("div.pictures", {}, node.parts.map((part, at) => view(part, node.strips?.[at])))] : [];
}

/** Writes what a message says by now. */
export function paint(article, node) {
  if (node.thought) think(article.querySelector(".thinking"), node);
  const body = article.querySelector(".body");
  if (node.role === "user") {
    body.textContent = node.content;
  } else if (node.asGaze && node.gaze) {
    body.replaceChildren(gazeView(node.gaze));
  } else if (node.asTokens && node.tokens) {
    body.replaceChildren(tokenView(node.tokens));
  } else if (node.verbatim) {
    body.classList.add("prose");
    body.replaceChildren(el("pre", {}, el("code", {}, node.content)));
  } else {
    body.classList.add("prose");
    body.replaceChildren(markdown(node.content));
  }
  if (node.error) body.append(failure(node.error));
}

/** What was thought before the answer: open while it is all there is, then to be opened by whoever wants to know. */
function think(place, node) {
  const alone = !node.content && !node.tool_calls;
  let shown = place.querySelector("details");
  if (!shown) {
    shown = el("details.thought", { open: alone }, el("summary", {}, "Thought"), el("p"));
    shown.dataset.alone = alone;
    place.append(shown);
  }
  shown.querySelector("p").textContent = node.thought;
  if (shown.dataset.alone === "true" && !alone) {
    shown.open = shown.dataset.alone = false;
  }
}

function failure({ message, param }) {
  return el(
    "div.failure",
    { role: "alert" },
    inWords({ message }),
    param && el("small", {}, "field: ", el("code", {}, param)),
  );
}

function meta(article, node, siblings, act) {
  const row = article.querySelector(".meta");
  const button = (label, deed, properties = {}) =>
    el("button.tiny", { type: "button", onclick: deed, ...properties }, label);
  if (node.facts) row.append(el("span.facts", {}, node.facts));
  if (siblings.length > 1) row.append(branches(node, siblings, act));
  if (node.role === "user") {
    row.append(button("Edit", () => edit(article, node, act, act.edit)));
    return;
  }
  if (node.content) row.append(button("Copy", (event) => copy(event.currentTarget, node.content)));
  row.append(button(node.error ? "Try again" : "Regenerate", () => act.regenerate(node)));
  if (node.tokens?.length) {
    const flip = () => {
      node.asTokens = !node.asTokens;
      act.redraw();
    };
    row.append(button("Tokens", flip, { "aria-pressed": String(Boolean(node.asTokens)) }));
  }
  if (act.looked(node)) {
    row.append(button("Where it looked", () => act.look(node), { "aria-pressed": String(Boolean(node.asGaze)) }));
  }
  if (act.judged(node) && node.content && !node.corrected) {
    for (const [rating, label] of [
      ["up", "Good answer"],
      ["down", "Bad answer"],
    ]) {
      const pressed = String(node.rating === rating);
      const rate = () => act.rate(node, rating);
      row.append(button(thumb(rating), rate, { title: label, "aria-label": label, "aria-pressed": pressed }));
    }
    if (!node.tool_calls) row.append(button("Correct", () => edit(article, node, act, act.correct)));
  }
  if (node.note) row.append(el("span", { role: "status" }, node.note));
}

/** Drawn, as not every machine has a font with thumbs. */
function thumb(rating) {
  const wrist = "M3.5 11h4v9h-4z";
  const fingers = "M7.5 12l4-8c2.2 0 2.9 1.6 2.3 5.2h5.4q1.4.2 1.1 1.8l-1.6 7.4q-.3 1.6-2 1.6H7.5";
  const hand = svg("path", { d: wrist + fingers });
  return svg("svg", { class: `thumb ${rating}`, viewBox: "0 0 24 24", "aria-hidden": "true" }, hand);
}

function branches(node, siblings, act) {
  const at = siblings.indexOf(node);
  const arrow = (sign, step, label) =>
    el(
      "button.tiny",
      { type: "button", "aria-label": label, disabled: !siblings[at + step], onclick: () => act.turn(node, step) },
      sign,
    );
  return el(
    "span.branches",
    { role: "group", "aria-label": `Branch ${at + 1} of ${siblings.length}` },
    arrow("‹", -1, "Previous branch"),
    `${at + 1}/${siblings.length}`,
    arrow("›", 1, "Next branch"),
  );
}

function edit(article, node, act, deed) {
  const text = el("textarea", { value: node.content, "aria-label": "Edit the message" });
  const send = () => text.value.trim() && deed(node, text.value);
  text.onkeydown = (event) => {
    if (event.key === "Escape") close();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      send();
    }
    event.stopPropagation();
  };
  const close = () => {
    editor.remove();
    act.redraw();
  };
  const editor = el(
    "form.editor",
    { onsubmit: (event) => event.preventDefault() },
    text,
    el(
      "div",
      {},
      el("button.quiet", { type: "button", onclick: close }, "Cancel"),
      el("button.primary", { type: "button", onclick: send }, "Send"),
    ),
  );
  article.replaceChildren(editor);
  text.focus();
}

function calls(article, node, act) {
  const open = !node.running && !node.duel;
  article.querySelector(".calls").replaceChildren(
    ...(node.tool_calls ?? []).map((call) => {
      const result = node.results?.[call.id];
      const head = el("header", {}, el("b", {}, call.function.name), `(${call.function.arguments})`);
      if (result !== undefined) return el("div.call", {}, head, el("div.result", {}, result));
      return el("div.call", {}, head, open && resultForm(node, call, act));
    }),
  );
}

function resultForm(node, call, act) {
  const input = el("input", {
    type: "text",
    placeholder: "What does it return?",
    "aria-label": `Result of ${call.function.name}`,
  });
  const submit = (event) => {
    event.preventDefault();
    act.result(node, call, input.value);
  };
  return el("form", { onsubmit: submit }, input, el("button.primary", {}, "Return"));
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not allowed here";
  }
}

/** Two answers side by side, and the choice once both are complete. */
export function duelView(nodes, act) {
  const columns = nodes.map((node, at) => {
    const article = messageView(node, [node], act);
    article.prepend(el("span.who", {}, `${"AB"[at]}`));
    if (!node.running)
      article.querySelector(".meta").replaceChildren(el("span.facts", {}, `${node.model}  ·  ${node.facts ?? ""}`));
    return article;
  });
  const ready = nodes.every((node) => !node.running);
  const choice = (label, chosen) =>
    el("button.quiet", { type: "button", onclick: () => act.choose(nodes, chosen) }, label);
  const verdict = el("div.verdict", { role: "group", "aria-label": "Which answer is better?" });
  if (ready) verdict.append(choice("A is better", 0), choice("Neither", null), choice("B is better", 1));
  return el("div.duel", {}, columns, verdict);
}
