// The KV pool block by block: who has it, what is shared, what is only kept in case somebody asks for it again.

import { colour, sharp } from "./dom.js";

const FREE = -2;
const CACHED = -1;
const SHARED = -3;

/** A colour for each lane; neighbours differ. */
export const laneColour = (lane) => `hsl(${(lane * 67 + 172) % 360} 42% 56%)`;

export function drawBlocks(canvas, { cells }) {
  const { pen, width, height } = sharp(canvas);
  const across = columns(cells.length, width, height);
  const side = Math.min(width / across, height / Math.ceil(cells.length / across), 22);
  const gap = side > 6 ? 2 : side > 3 ? 1 : 0.4;
  const [free, tint, accent, ink] = ["--faint", "--tint", "--accent", "--ink"].map(colour);
  const fills = { [FREE]: free, [CACHED]: tint, [SHARED]: ink };
  cells.forEach((state, at) => {
    const [left, top] = [(at % across) * side, Math.floor(at / across) * side];
    pen.fillStyle = fills[state] ?? laneColour(state);
    pen.beginPath();
    pen.roundRect(left, top, side - gap, side - gap, Math.min(3, side / 4));
    pen.fill();
    if (state === CACHED && side > 5) {
      pen.strokeStyle = accent;
      pen.lineWidth = 1;
      pen.stroke();
    }
  });
}

function columns(count, width, height) {
  let across = Math.max(1, Math.floor(width / Math.min(22, Math.sqrt((width * height) / Math.max(1, count)))));
  while (Math.ceil(count / across) * (width / across) > height && width / across <= 22 && across < count) across += 1;
  return across;
}
