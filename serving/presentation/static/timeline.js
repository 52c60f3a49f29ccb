// The batch as it happens: one row for each sequence that runs, time to the right. Time in which the engine had nothing to do is
// cut out and leaves a dotted line.

import { colour, sharp } from "./dom.js";

const SPAN = 8; // seconds on screen
const IDLE = 0.5; // longer pauses are cut out
const PAUSE = 0.15; // and leave so much
const ROW = 30;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.held = false;
    this.clear();
  }

  clear() {
    this.bars = []; // {lane, request, kind, start, end, tokens, steps}, in time without pauses
    this.cuts = [];
    this.cut = 0; // seconds cut out so far
    this.latest = 0;
    this.right = null;
  }

  add(bars) {
    for (const [lane, request, kind, from, to, tokens, steps] of bars) {
      let start = from - this.cut;
      if (this.bars.length && start - this.latest > IDLE) {
        this.cuts.push(this.latest + PAUSE / 2);
        this.cut += start - this.latest - PAUSE;
        start = this.latest + PAUSE;
      }
      const end = to - this.cut;
      this.latest = Math.max(this.latest, end);
      const last = this.bars.findLast((bar) => bar.lane === lane);
      // Frames cut long decodes; on screen they go on.
      if (last?.request === request && last.kind === kind && kind === "d" && start - last.end < 0.05) {
        last.end = end;
        last.tokens += tokens;
        last.steps += steps;
      } else {
        this.bars.push({ lane, request, kind, start, end, tokens, steps });
      }
    }
    const oldest = this.latest - 2 * SPAN;
    this.bars = this.bars.filter((bar) => bar.end > oldest);
    this.cuts = this.cuts.filter((at) => at > oldest);
  }

  /** Rows on screen, oldest bar first; what a test or a screen reader can ask. */
  rows() {
    return Math.max(0, ...this.bars.map((bar) => bar.lane + 1));
  }

  draw() {
    const { pen, width, height } = sharp(this.canvas);
    if (this.right === null) this.right = this.latest;
    if (!this.held) this.right += (this.latest - this.right) * 0.25;
    const rows = Math.max(this.rows(), 4);
    const axis = 20;
    const row = Math.min(ROW, (height - axis) / rows);
    const left = 34;
    const x = (time) => left + ((time - this.right + SPAN) / SPAN) * (width - left);
    const [prefill, decode, line, soft] = ["--prefill", "--decode", "--line", "--soft"].map(colour);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.grid(pen, { width, height, axis, row, rows, left, line, soft, x });
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width - left, height - axis);
    pen.clip();
    for (const bar of this.bars) {
      const from = x(bar.start);
      const long = Math.max(1.5, x(bar.end) - from);
      if (from > width || from + long < left) continue;
      pen.fillStyle = bar.kind === "p" ? prefill : decode;
      pen.beginPath();
      pen.roundRect(from, bar.lane * row + row * 0.14, long, row * 0.72, Math.min(5, row / 4, long / 2));
      pen.fill();
      if (row >= 16 && long > 46) this.label(pen, bar, Math.max(from, left), bar.lane * row + row / 2);
    }
    pen.strokeStyle = soft;
    pen.setLineDash([2, 4]);
    for (const at of this.cuts) {
      pen.beginPath();
      pen.moveTo(x(at), 0);
      pen.lineTo(x(at), height - axis);
      pen.stroke();
    }
    pen.restore();
  }

  grid(pen, { width, height, axis, row, rows, left, line, soft, x }) {
    pen.strokeStyle = line;
    pen.fillStyle = soft;
    pen.lineWidth = 1;
    pen.textAlign = "right";
    const every = Math.ceil(14 / row); // or the numbers would touch
    for (let lane = 0; lane < rows; lane += every) pen.fillText(String(lane + 1), left - 10, lane * row + row / 2);
    pen.textAlign = "center";
    for (let ago = 0; ago < SPAN; ago += 2) {
      const at = Math.round(x(this.right - ago)) + (ago ? 0.5 : -0.5);
      pen.beginPath();
      pen.moveTo(at, 0);
      pen.lineTo(at, height - axis);
      pen.stroke();
      if (ago) pen.fillText(`${ago} s ago`, at, height - axis / 2);
    }
    pen.textAlign = "right";
    pen.fillText("last step", width, height - axis / 2);
  }

  label(pen, bar, from, middle) {
    pen.fillStyle = "#ffffff";
    pen.textAlign = "left";
    pen.fillText(`${bar.tokens}`, from + 8, middle + 0.5);
  }
}
