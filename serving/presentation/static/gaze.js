// Where a model looked as it wrote an answer: its pictures, shaded by the attention of the token that is pointed at.

import { postJSON } from "./api.js";
import { el } from "./dom.js";
import { field, shade } from "./overlay.js";

let patches = false; // whether the grids are drawn

/** Asks the server; `request` is {model, messages, tools}, up to the question. */
export const ask = (request, answer) => postJSON("v1/chat/attention", { ...request, answer });

/** `told` as the API answers; `parts` are the pictures and clips of the conversation, in their order. */
export function gazeView(told, parts) {
  const said = el("p.caption", { role: "status" });
  const canvases = told.pictures.map(() => el("canvas", { "aria-hidden": "true" }));
  let pinned = null;
  let pointed = null;

  const buttons = told.tokens.map((one) =>
    el(
      "button.token",
      {
        type: "button",
        "aria-pressed": "false",
        title: percent(one.share),
        onpointerenter: () => paint((pointed = one)),
        onfocus: () => paint((pointed = one)),
        onclick: () => {
          pinned = pinned === one ? null : one;
          paint((pointed = null));
        },
      },
      one.text || "·",
    ),
  );
  const leave = () => paint((pointed = null));
  const words = el("div.tokens", { onpointerleave: leave, onfocusout: leave }, buttons);

  function paint() {
    const chosen = pointed ?? pinned;
    const { weights, share } = chosen ?? average(told.tokens);
    const fields = told.pictures.map((picture, at) => field(picture.grids, weights[at], !patches));
    const most = Math.max(...fields.map((values) => Math.max(...values)));
    fields.forEach((values, at) => shade(canvases[at], values, most, patches ? told.pictures[at].grids : null));
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(told.tokens[at] === pinned)));
    const what = chosen ? `“${chosen.text.trim() || "·"}”` : "The whole answer";
    said.textContent = `${what}: ${percent(share)} of the attention fell on ${told.pictures.length > 1 ? "pictures" : "the picture"}`;
  }

  const toggle = el("button.chip", { type: "button", "aria-pressed": String(patches) }, "Patches and tokens");
  toggle.onclick = () => {
    patches = !patches;
    toggle.setAttribute("aria-pressed", String(patches));
    paint();
  };
  const figures = told.pictures.map((picture, at) => figure(picture, parts[picture.part], canvases[at]));
  const view = el("div.gaze", {}, el("div.looked", {}, figures), words, el("div.gaze-bar", {}, toggle, said));
  const sizes = new ResizeObserver(() => paint()); // the first time as soon as there is a size
  for (const canvas of canvases) sizes.observe(canvas);
  return view;
}

function figure(picture, part, canvas) {
  const frame = picture.thumbnail !== null;
  const image = el("img", { src: picture.thumbnail ?? part?.image_url?.url ?? "", alt: frame ? `Frame at ${seconds(picture)}` : "A picture" });
  return el(
    frame ? "figure.frame" : "figure",
    { "--aspect": picture.width / picture.height },
    el("div", {}, image, canvas),
    el("figcaption", {}, `${frame ? `${seconds(picture)} · ` : ""}${counted(picture.grids)}`),
  );
}

const seconds = ({ time }) => `${time.toFixed(1)} s`;

function counted(grids) {
  const sum = (rows, columns) => grids.reduce((total, grid) => total + grid[rows] * grid[columns], 0);
  const tiles = grids.length > 1 ? ` in ${grids.length} views` : "";
  return `${sum("patch_rows", "patch_columns")} patches, ${sum("rows", "columns")} tokens${tiles}`;
}

/** As if the answer were one token. */
function average(tokens) {
  const mean = (of) => tokens.reduce((total, one) => total + of(one), 0) / tokens.length;
  const weights = tokens[0].weights.map((picture, at) =>
    picture.map((grid, which) => grid.map((_, number) => mean((one) => one.weights[at][which][number]))),
  );
  return { weights, share: mean((one) => one.share) };
}

const percent = (share) => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
