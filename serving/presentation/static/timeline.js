// The batch as it happens: one row for each sequence that runs, time to the right. Time in which the
// engine had nothing to do is cut out and leaves a dotted line.

import { colour, sharp } from "./dom.js";

const SPAN = [0.25, 8]; // seconds on screen: as much as there is to see, within these bounds
const IDLE = 0.5; // longer pauses are cut out
const PAUSE = 0.15; // and leave so much
const ROW = 27;
const AXIS = 22;
const FEWEST_ROWS = 4;
const MOST_HEIGHT = 330;
const TICKS = [0.05, 0.1, 0.25, 0.5, 1, 2]; // seconds

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
    this.span = SPAN[0];
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
    const oldest = this.latest - 2 * SPAN[1];
    this.bars = this.bars.filter((bar) => bar.end > oldest);
    this.cuts = this.cuts.filter((at) => at > oldest);
  }

  /** Rows on screen, oldest bar first; what a test or a screen reader can ask. */
  rows() {
    return Math.max(0, ...this.bars.map((bar) => bar.lane + 1));
  }

  draw() {
    const rows = Math.max(this.rows(), FEWEST_ROWS);
    this.canvas.style.setProperty("height", `${Math.min(rows * ROW + AXIS, MOST_HEIGHT)}px`);
    const { pen, width, height } = sharp(this.canvas);
    if (height <= AXIS) return; // it is not on screen
    this.move();
    const row = (height - AXIS) / rows;
    const left = 30;
    const x = (time) => left + ((time - this.right + this.span) / this.span) * (width - left);
    const [prefill, decode, soft] = ["--prefill", "--decode", "--soft"].map(colour);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.grid(pen, { width, height, row, rows, left, x });
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, width - left, height - AXIS);
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
      pen.lineTo(x(at), height - AXIS);
      pen.stroke();
    }
    pen.restore();
  }

  /** The right edge follows the last step, the span what there is to see. */
  move() {
    const far = this.right === null || Math.abs(this.latest - this.right) > SPAN[1];
    if (far) this.right = this.latest; // nothing to glide over: the first steps, or another engine
    if (this.held) return;
    this.right += (this.latest - this.right) * 0.25;
    const first = this.bars[0]?.start ?? this.latest;
    const wanted = Math.min(SPAN[1], Math.max(SPAN[0], 1.04 * (this.latest - first)));
    this.span += (wanted - this.span) * 0.15;
  }

  grid(pen, { width, height, row, rows, left, x }) {
    pen.strokeStyle = colour("--line");
    pen.fillStyle = colour("--soft");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    const every = Math.ceil(14 / row); // or the numbers would touch
    for (let lane = 0; lane < rows; lane += every) pen.fillText(String(lane + 1), left - 10, lane * row + row / 2);
    pen.textAlign = "center";
    const tick = TICKS.find((one) => this.span / one <= 5) ?? TICKS.at(-1);
    for (let count = 0; count * tick < this.span; count += 1) {
      const at = Math.round(x(this.right - count * tick)) - 0.5;
      pen.beginPath();
      pen.moveTo(at, 0);
      pen.lineTo(at, height - AXIS);
      pen.stroke();
      const ago = count * tick;
      if (count && at < width - 90 && at > left + 20)
        pen.fillText(ago < 1 ? `${Math.round(1000 * ago)} ms ago` : `${ago} s ago`, at, height - AXIS / 2);
    }
    pen.textAlign = "right";
    pen.fillText("last step", width, height - AXIS / 2);
  }

  label(pen, bar, from, middle) {
    pen.fillStyle = colour("--paper");
    pen.textAlign = "left";
    pen.fillText(`${bar.tokens}`, from + 8, middle + 0.5);
  }
}
