// Sound in and out: a microphone that gives pieces away, and a loudspeaker with a queue that can be emptied at once.

export const RATE = 24000;
const AHEAD = 0.04; // seconds that a sound begins later than it came, so that the next one is in time

/** Opens the microphone; `heard({samples, level})` is called for every piece. Throws when it may not be used. */
export async function openMicrophone(heard) {
  const wishes = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: wishes });
  const context = new AudioContext({ sampleRate: RATE });
  try {
    await context.audioWorklet.addModule("static/capture.js");
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    node.port.onmessage = ({ data }) => heard(data);
    context.createMediaStreamSource(stream).connect(node);
    await context.resume();
  } catch (error) {
    close(stream, context);
    throw error;
  }
  return { close: () => close(stream, context) };
}

function close(stream, context) {
  for (const track of stream.getTracks()) track.stop();
  context.close();
}

/** Plays pieces one after the other. */
export class Loudspeaker {
  #context = new AudioContext({ sampleRate: RATE });
  #playing = new Set();
  #until = 0; // seconds of the context's clock
  #queued = 0; // seconds of this answer

  /** `samples`: Int16Array. */
  play(samples) {
    const buffer = this.#context.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(Float32Array.from(samples, (one) => one / 32768), 0);
    const source = this.#context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.#context.destination);
    source.onended = () => this.#playing.delete(source);
    this.#until = Math.max(this.#until, this.#context.currentTime + AHEAD);
    source.start(this.#until);
    this.#until += buffer.duration;
    this.#queued += buffer.duration;
    this.#playing.add(source);
    this.#context.resume();
  }

  get isPlaying() {
    return this.#context.currentTime < this.#until;
  }

  /** Silence, now; how many milliseconds of the answer were heard. */
  flush() {
    const left = Math.max(0, this.#until - this.#context.currentTime);
    const heard = Math.max(0, this.#queued - left) * 1000;
    for (const source of this.#playing) source.stop();
    this.#playing.clear();
    this.#until = this.#queued = 0;
    return Math.floor(heard);
  }

  /** The next piece is of another answer. */
  begin() {
    this.#queued = 0;
  }

  close() {
    this.flush();
    this.#context.close();
  }
}

/** Int16Array to base64. */
export function encoded(samples) {
  let text = "";
  for (const byte of new Uint8Array(samples.buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}

/** And back. */
export const decoded = (text) => new Int16Array(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
