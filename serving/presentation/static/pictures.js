// Files to data: addresses, small enough to be sent and kept.

import { el } from "./dom.js";

const MOST_PIXELS = 2 ** 20; // what the server keeps of a picture
const MOST_BYTES = 2 ** 20;
const READ = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"]; // by the server
const FRAMES = 5;
const FRAME_HEIGHT = 72;
const PATIENCE = 4000; // milliseconds that a browser may look for frames

/** A file as it is. */
export function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}

/** A picture, reduced where it is larger than needed or of a format that is not read; what is no picture, as it is. */
export async function shrunk(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    return dataUrl(file); // the server says what is wrong with it
  }
  const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (bitmap.width * bitmap.height)));
  if (scale === 1 && file.size <= MOST_BYTES && READ.includes(file.type)) return dataUrl(file);
  const canvas = el("canvas", {
    width: Math.max(1, Math.floor(bitmap.width * scale)),
    height: Math.max(1, Math.floor(bitmap.height * scale)),
  });
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/webp", 0.92);
}

/** Small pictures of a clip's frames, evenly spaced; none where the browser cannot play it. */
export async function filmstrip(url) {
  if (url.startsWith("data:image/")) return [url];
  const video = el("video", { muted: true, preload: "auto" });
  const frames = [];
  try {
    await event(video, "loadeddata", () => (video.src = url));
    const length = Number.isFinite(video.duration) ? video.duration : 0;
    const scale = FRAME_HEIGHT / video.videoHeight;
    const canvas = el("canvas", { width: Math.round(video.videoWidth * scale), height: FRAME_HEIGHT });
    for (let at = 0; at < (length ? FRAMES : 1); at += 1) {
      if (at) await event(video, "seeked", () => (video.currentTime = (length * at) / FRAMES));
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      frames.push(canvas.toDataURL("image/jpeg", 0.7));
    }
  } catch {
    // Then there are fewer frames, or none.
  }
  video.removeAttribute("src");
  video.load();
  return frames;
}

/** Waits for what `cause` makes happen. */
function event(target, name, cause) {
  return new Promise((done, failed) => {
    const late = setTimeout(failed, PATIENCE, new Error(`no ${name}`));
    target.addEventListener(name, () => (clearTimeout(late), done()), { once: true });
    target.addEventListener("error", () => (clearTimeout(late), failed(target.error)), { once: true });
    cause();
  });
}
