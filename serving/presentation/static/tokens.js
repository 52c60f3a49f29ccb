// An answer token by token: the less likely, the warmer; choosing one shows what else the model considered.

import { el } from "./dom.js";

const share = (logprob) => Math.exp(logprob);
const percent = (logprob) => {
  const value = 100 * share(logprob);
  return value >= 99.95
    ? "100%"
    : value >= 10
      ? `${value.toFixed(0)}%`
      : value >= 0.1
        ? `${value.toFixed(1)}%`
        : "<0.1%";
};
const visible = (text) => text.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";

/** `tokens` as the API gives them: [{token, logprob, top_logprobs: [{token, logprob}]}]. */
export function tokenView(tokens) {
  const details = el("div", { "aria-live": "polite" });
  const buttons = tokens.map((one) =>
    el(
      "button.token",
      {
        type: "button",
        "--doubt": 1 - share(one.logprob),
        title: percent(one.logprob),
        "aria-pressed": "false",
        "aria-label": `${one.token}, ${percent(one.logprob)}`,
        onclick: (event) => {
          for (const button of buttons) button.setAttribute("aria-pressed", String(button === event.currentTarget));
          details.replaceChildren(alternatives(one));
        },
      },
      one.token,
    ),
  );
  return el("div", {}, el("div.tokens", {}, buttons), details);
}

function alternatives({ token, logprob, top_logprobs: top }) {
  const rows = top.some((one) => one.token === token) ? top : [...top, { token, logprob }];
  return el(
    "div.alternatives",
    {},
    rows.map((one) =>
      el(
        one.token === token ? "div.alternative.taken" : "div.alternative",
        {},
        el("code", {}, visible(one.token)),
        el("span.share", {}, el("i", { "--share": share(one.logprob) })),
        el("span", {}, percent(one.logprob)),
      ),
    ),
  );
}
