// The microphone, off the main thread: pieces of 40 ms as 16-bit samples at 24 kHz, each with its loudness.

const RATE = 24000;
const SIZE = 960;

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.piece = new Int16Array(SIZE);
    this.filled = 0;
    this.energy = 0;
    this.at = 0; // where the next sample is, in samples of the microphone, since the last of the block before
    this.last = 0;
  }

  process([[block]]) {
    if (!block) return true;
    const step = sampleRate / RATE; // 1 where the browser resamples by itself
    for (; this.at < block.length; this.at += step) {
      const whole = Math.floor(this.at);
      const before = whole ? block[whole - 1] : this.last;
      this.#add(before + (block[whole] - before) * (this.at - whole));
    }
    this.at -= block.length;
    this.last = block[block.length - 1];
    return true;
  }

  #add(sample) {
    const value = Math.max(-1, Math.min(1, sample));
    this.piece[this.filled++] = Math.round(value * 32767);
    this.energy += value * value;
    if (this.filled < SIZE) return;
    this.port.postMessage({ samples: this.piece, level: Math.sqrt(this.energy / SIZE) });
    this.piece = new Int16Array(SIZE);
    this.filled = 0;
    this.energy = 0;
  }
}

registerProcessor("capture", Capture);
