// Where a model looked as it wrote an answer: its pictures, shaded by the attention of the token that is pointed at.

import { inWords, postJSON } from "./api.js";
import { el } from "./dom.js";
import { field, shade } from "./overlay.js";

let patches = false; // whether the grids are drawn

/** Asks the server; `request` is {model, messages, tools, answer}. The answer is kept with what `gazeView` needs beside it:
 * the pictures and clips of the conversation, in their order, and how to ask for one layer. */
export async function ask(request, parts) {
  const again = (layers) => postJSON("v1/chat/attention", { ...request, ...(layers && { layers }) });
  return { told: await again(), parts, again };
}

export function gazeView({ told, parts, again }) {
  let { tokens } = told;
  const said = el("p.caption", { role: "status" });
  const canvases = told.pictures.map(() => el("canvas", { "aria-hidden": "true" }));
  let pinned = null; // number of a token
  let pointed = null;

  const buttons = tokens.map((one, at) =>
    el(
      "button.token",
      {
        type: "button",
        "aria-pressed": "false",
        onpointerenter: () => paint((pointed = at)),
        onfocus: () => paint((pointed = at)),
        onclick: () => {
          pinned = pinned === at ? null : at;
          paint((pointed = null));
        },
      },
      one.text || "·",
    ),
  );
  const leave = () => paint((pointed = null));
  const words = el("div.tokens", { onpointerleave: leave, onfocusout: leave }, buttons);

  function paint() {
    const chosen = tokens[pointed ?? pinned];
    const { weights, share } = chosen ?? average(tokens);
    const fields = told.pictures.map((picture, at) => field(picture.grids, weights[at], !patches));
    const most = Math.max(...fields.map((values) => Math.max(...values)));
    fields.forEach((values, at) => shade(canvases[at], values, most, patches ? told.pictures[at].grids : null));
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(at === pinned)));
    const what = chosen ? `“${chosen.text.trim() || "·"}”` : "The whole answer";
    said.textContent = `${what}: ${percent(share)} of the attention fell on ${told.pictures.length > 1 ? "pictures" : "the picture"}`;
  }

  const toggle = el("button.chip", { type: "button", "aria-pressed": String(patches) }, "Patches and tokens");
  toggle.onclick = () => {
    patches = !patches;
    toggle.setAttribute("aria-pressed", String(patches));
    paint();
  };
  const numbers = Array.from({ length: told.layers }, (_, at) => new Option(`Layer ${at + 1}`, at));
  const layer = el("select", { "aria-label": "Layers" }, new Option("All layers", ""), numbers);
  layer.onchange = async () => {
    try {
      ({ tokens } = await again(layer.value ? [Number(layer.value)] : null));
      paint();
    } catch (error) {
      said.textContent = inWords(error);
    }
  };
  const figures = told.pictures.map((picture, at) => figure(picture, parts[picture.part], canvases[at]));
  const view = el("div.gaze", {}, el("div.looked", {}, figures), words, el("div.gaze-bar", {}, toggle, layer, said));
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
    el("figcaption", {}, frame ? seconds(picture) : counted(picture.grids)),
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
