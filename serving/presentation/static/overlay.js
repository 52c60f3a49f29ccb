// What lies over a picture: where a model looked, and the grid of what it sees there. Weights are those of
// /v1/chat/attention: for each grid of a picture a list, row by row.

import { sharp } from "./dom.js";

const FINE = 96; // points of a field along each side
const DARKEST = 0.66;
const HEAT = [255, 132, 20];

/** How much attention there is at each of FINE x FINE points of a picture, for its whole size; all grids together. */
export function field(grids, weights, smooth) {
  const found = new Float32Array(FINE * FINE);
  for (const [number, grid] of grids.entries()) {
    const [left, top, right, bottom] = grid.box;
    const cell = ((right - left) * (bottom - top)) / (grid.rows * grid.columns);
    const at = smooth ? between : nearest;
    for (let point = 0; point < found.length; point += 1) {
      const x = ((((point % FINE) + 0.5) / FINE - left) / (right - left)) * grid.columns;
      const y = ((Math.floor(point / FINE) + 0.5) / FINE - top) / (bottom - top) * grid.rows;
      if (x < 0 || y < 0 || x >= grid.columns || y >= grid.rows) continue;
      found[point] += at(grid, weights[number], x, y) / cell;
    }
  }
  return found;
}

const nearest = (grid, values, x, y) => values[Math.floor(y) * grid.columns + Math.floor(x)];

/** Between the middles of the four tokens around a point. */
function between(grid, values, x, y) {
  const clamp = (value, most) => Math.min(most, Math.max(0, value));
  const [column, row] = [clamp(x - 0.5, grid.columns - 1), clamp(y - 0.5, grid.rows - 1)];
  const [left, top] = [Math.floor(column), Math.floor(row)];
  const [right, bottom] = [clamp(left + 1, grid.columns - 1), clamp(top + 1, grid.rows - 1)];
  const along = (line) =>
    values[line * grid.columns + left] * (1 - column + left) + values[line * grid.columns + right] * (column - left);
  return along(top) * (1 - row + top) + along(bottom) * (row - top);
}

/** Shades a picture by a field, whose largest value anywhere is `most`; with `grids` their lines are drawn, too. */
export function shade(canvas, values, most, grids) {
  const { pen, width, height } = sharp(canvas);
  if (!width || !height) return;
  const small = document.createElement("canvas");
  small.width = small.height = FINE;
  const image = new ImageData(FINE, FINE);
  values.forEach((value, point) => {
    const light = Math.min(1, value / (most || 1));
    const [dark, warm] = [DARKEST * (1 - light) ** 1.5, 0.42 * light ** 2];
    const alpha = 1 - (1 - dark) * (1 - warm);
    for (const [part, colour] of HEAT.entries()) image.data[4 * point + part] = alpha && (colour * warm) / alpha;
    image.data[4 * point + 3] = 255 * alpha;
  });
  small.getContext("2d").putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = !grids;
  pen.drawImage(small, 0, 0, width, height);
  for (const grid of grids ?? []) lines(pen, width, height, grid);
}

/** Thin lines between patches, thick ones between tokens. */
function lines(pen, width, height, { box: [left, top, right, bottom], ...grid }) {
  const rule = (columns, rows, thick, colour) => {
    pen.strokeStyle = colour;
    pen.lineWidth = thick;
    pen.beginPath();
    for (let at = 0; at <= columns; at += 1) {
      const x = (left + ((right - left) * at) / columns) * width;
      pen.moveTo(x, top * height);
      pen.lineTo(x, bottom * height);
    }
    for (let at = 0; at <= rows; at += 1) {
      const y = (top + ((bottom - top) * at) / rows) * height;
      pen.moveTo(left * width, y);
      pen.lineTo(right * width, y);
    }
    pen.stroke();
  };
  rule(grid.patch_columns, grid.patch_rows, 0.5, "rgb(255 255 255 / 55%)");
  rule(grid.columns, grid.rows, 1.5, "rgb(255 255 255 / 90%)");
}
