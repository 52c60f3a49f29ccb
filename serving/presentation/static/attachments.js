// Slots for an image, a sound or a video: there only for what the chosen model says it takes
// (`capabilities` of /v1/models).

import { $, el } from "./dom.js";

const PARTS = {
  image: (address) => ({ type: "image_url", image_url: { url: address } }),
  audio: (address, file) => ({
    type: "input_audio",
    input_audio: { data: address.split(",")[1], format: file.name.split(".").pop() },
  }),
  video: (address) => ({ type: "video_url", video_url: { url: address } }),
};

let chosen = []; // {name, part}

/** Shows a slot for each kind of media that the model takes. */
export function offer(model) {
  chosen = [];
  const kinds = Object.keys(PARTS).filter((kind) => model?.capabilities?.includes(kind));
  $("attachments").replaceChildren(...kinds.map(slot));
}

function slot(kind) {
  const input = el("input.unseen", { type: "file", accept: `${kind}/*`, "aria-label": `Attach ${kind}` });
  const label = el("label.chip", {}, `+ ${kind}`, input);
  input.onchange = async () => {
    const [file] = input.files;
    if (!file) return;
    chosen.push({ name: file.name, part: PARTS[kind](await address(file), file) });
    label.firstChild.textContent = `+ ${kind}: ${file.name}`;
  };
  return label;
}

/** The file as a data: address. */
function address(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

/** What was attached, as content parts; the slots are empty afterwards. */
export function take(model) {
  const parts = chosen.map((one) => one.part);
  offer(model);
  return parts;
}
