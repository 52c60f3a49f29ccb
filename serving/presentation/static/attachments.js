// Pictures and clips that are about to be sent: chosen, pasted, dropped or taken, and only where the chosen model says
// that it sees them (`capabilities` of /v1/models).

import { $, el } from "./dom.js";
import { dataUrl, filmstrip, shrunk } from "./pictures.js";

const KINDS = ["image", "video"];
const LABELS = { image: "+ Picture", video: "+ Clip" };
const ACCEPT = { image: "image/*", video: "video/*,image/gif" };
const PARTS = {
  image: (url) => ({ type: "image_url", image_url: { url } }),
  video: (url) => ({ type: "video_url", video_url: { url } }),
};

let kinds = [];
let chosen = []; // {name, part, strip}
let reading = []; // files on their way to become such
let changed = () => {};

/** Shows what the model takes; what it does not is let go. */
export function offer(model) {
  kinds = KINDS.filter((kind) => model?.capabilities?.includes(kind));
  chosen = chosen.filter(({ part }) => kinds.some((kind) => part.type === `${kind}_url`));
  const camera = kinds.includes("image") && navigator.mediaDevices?.getUserMedia;
  $("attachments").replaceChildren(
    ...kinds.map(chooser),
    ...(camera ? [el("button.chip", { type: "button", onclick: openCamera }, "Camera")] : []),
  );
  draw();
}

function chooser(kind) {
  const input = el("input.unseen", { type: "file", accept: ACCEPT[kind], multiple: true });
  input.setAttribute("aria-label", `Attach ${kind}`);
  input.onchange = async () => {
    await add(input.files, kind);
    input.value = "";
  };
  return el("label.chip", {}, LABELS[kind], input);
}

/** Takes the files that the model can be shown; whether there were any. */
async function add(files, wanted) {
  const taken = [...files].map((file) => [file, wanted ?? file.type.split("/")[0]]).filter(([, kind]) => kinds.includes(kind));
  reading.push(...taken.map(([file]) => file));
  draw();
  try {
    for (const [file, kind] of taken) {
      const url = kind === "image" ? await shrunk(file) : await dataUrl(file);
      const strip = kind === "video" ? await filmstrip(url) : null;
      if (kinds.includes(kind)) chosen.push({ name: file.name, part: PARTS[kind](url), strip }); // another model may be chosen by now
      reading = reading.filter((one) => one !== file);
      draw();
    }
  } finally {
    reading = reading.filter((one) => !taken.some(([file]) => file === one));
    draw();
  }
  return taken.length > 0;
}

/** What was attached, {parts, strips} in the same order; then nothing is attached any more. */
export function take() {
  const taken = { parts: chosen.map(({ part }) => part), strips: chosen.map(({ strip }) => strip) };
  chosen = [];
  draw();
  return taken;
}

export const isEmpty = () => chosen.length === 0;

/** Whether something that was chosen is not there yet: a message would go without it. */
export const isReading = () => reading.length > 0;

function draw() {
  const items = chosen.map((one) =>
    el(
      "div.attached",
      {},
      view(one.part, one.strip, one.name),
      el("button.tiny", { type: "button", "aria-label": `Remove ${one.name}`, onclick: () => remove(one) }, "×"),
    ),
  );
  const coming = reading.map(({ name }) => el("span.attached", { role: "status" }, `Reading ${name} …`));
  $("attached").replaceChildren(...items, ...coming);
  $("attached").hidden = !items.length && !coming.length;
  changed();
}

function remove(one) {
  chosen = chosen.filter((other) => other !== one);
  draw();
  $("prompt").focus();
}

/** A picture, or frames of a clip beside each other. */
export function view(part, strip, name = "") {
  if (part.image_url) return el("img.shown", { src: part.image_url.url, alt: name || "A picture" });
  const frames = (strip ?? []).map((src) => el("img", { src, alt: "" }));
  return el("span.shown.film", { role: "img", "aria-label": name || "A clip" }, frames.length ? frames : name || "A clip");
}

// -- the camera -----------------------------------------------------------------------------------------------------

let closeCamera = null; // while it is open
let asked = 0; // how often for it: browsers ask their user first, and that may take long

/** Whether there was a camera to put away. */
export function putCameraAway() {
  const open = closeCamera !== null;
  closeCamera?.();
  return open;
}

async function openCamera() {
  putCameraAway();
  const mine = (asked += 1);
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    $("camera").replaceChildren(el("p.field-error", { role: "alert" }, `The camera cannot be used: ${error.message}`));
    $("camera").hidden = false;
    return;
  }
  const end = () => stream.getTracks().forEach((track) => track.stop());
  if (mine !== asked) return end(); // it was asked for once more meanwhile
  const video = el("video", { autoplay: true, muted: true, playsInline: true, srcObject: stream });
  const close = () => {
    closeCamera = null;
    end();
    $("camera").hidden = true;
    $("camera").replaceChildren();
    $("prompt").focus();
  };
  closeCamera = close;
  const shoot = async () => {
    if (!video.videoWidth) return; // there is nothing to be seen yet
    const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    close();
    await add([new File([blob], "camera.png", { type: "image/png" })], "image");
  };
  const button = (label, deed, look) => el(`button.${look}`, { type: "button", onclick: deed }, label);
  $("camera").replaceChildren(video, button("Take the picture", shoot, "primary"), button("Close", close, "quiet"));
  $("camera").hidden = false;
}

/** `onChange` is called whenever something is attached or no longer is. */
export function setUp(onChange) {
  changed = onChange;
  $("prompt").addEventListener("paste", (event) => {
    if (event.clipboardData.files.length && kinds.length) {
      event.preventDefault();
      add(event.clipboardData.files);
    }
  });
  const zone = $("chat");
  const over = (event, on) => {
    if (!kinds.length || !event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    zone.classList.toggle("dropping", on);
  };
  zone.addEventListener("dragover", (event) => over(event, true));
  zone.addEventListener("dragleave", (event) => over(event, false));
  zone.addEventListener("drop", (event) => {
    over(event, false);
    if (kinds.length) add(event.dataTransfer.files);
  });
}
