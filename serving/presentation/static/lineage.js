// The registry as a graph: parents left, children right, one box for each version.

import { svg } from "./dom.js";

const WIDTH = 148;
const HEIGHT = 58;
const ACROSS = 42;
const DOWN = 16;
const EDGE = 12; // for outlines and badges

/** Draws `versions`; `chosen` and `other` are refs; `choose(ref, compare)` is called for clicks and keys. */
export function lineageGraph(versions, chosen, other, choose) {
  const depth = depths(versions);
  const columns = new Map();
  for (const version of versions) {
    const column = depth.get(version.ref);
    columns.set(column, [...(columns.get(column) ?? []), version]);
  }
  const tallest = Math.max(1, ...[...columns.values()].map((column) => column.length));
  const height = tallest * (HEIGHT + DOWN) - DOWN + 2 * EDGE;
  const places = new Map();
  for (const [column, inside] of columns) {
    const offset = EDGE + (height - 2 * EDGE - inside.length * (HEIGHT + DOWN) + DOWN) / 2;
    inside.forEach((version, row) =>
      places.set(version.ref, { x: 2 + column * (WIDTH + ACROSS), y: offset + row * (HEIGHT + DOWN) }),
    );
  }
  const width = Math.max(1, columns.size) * (WIDTH + ACROSS) - ACROSS + 4;
  const family = ancestors(versions, chosen);
  const picture = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "group",
    "aria-label": "Lineage",
  });
  for (const version of versions) {
    for (const parent of version.parents) {
      if (places.has(parent))
        picture.append(
          edge(places.get(parent), places.get(version.ref), family.has(parent) && family.has(version.ref)),
        );
    }
  }
  for (const version of versions) picture.append(box(version, places.get(version.ref), chosen, other, choose));
  return picture;
}

/** How many steps a version is away from its furthest root. */
function depths(versions) {
  const by = new Map(versions.map((version) => [version.ref, version]));
  const found = new Map();
  const depth = (ref) => {
    if (!by.has(ref)) return -1; // a parent that was removed
    if (!found.has(ref)) {
      found.set(ref, 0); // a circle, which no sound registry has, ends here
      found.set(ref, 1 + Math.max(-1, ...by.get(ref).parents.map(depth)));
    }
    return found.get(ref);
  };
  for (const ref of by.keys()) depth(ref);
  return found;
}

function ancestors(versions, ref) {
  const by = new Map(versions.map((version) => [version.ref, version]));
  const found = new Set();
  const open = [ref];
  while (open.length) {
    const next = open.pop();
    if (found.has(next) || !by.has(next)) continue;
    found.add(next);
    open.push(...by.get(next).parents);
  }
  return found;
}

function edge(from, to, on) {
  const [x1, y1, x2, y2] = [from.x + WIDTH, from.y + HEIGHT / 2, to.x, to.y + HEIGHT / 2];
  const bend = (x2 - x1) / 2;
  return svg("path", {
    class: on ? "edge on" : "edge",
    d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`,
  });
}

function box(version, { x, y }, chosen, other, choose) {
  const marks = [version.ref === chosen && "a", version.ref === other && "b", version.problem && "broken"].filter(
    Boolean,
  );
  const node = svg("g", {
    class: ["node", ...marks].join(" "),
    transform: `translate(${x} ${y})`,
    tabindex: 0,
    role: "button",
    "aria-pressed": version.ref === chosen,
    "aria-label": [version.ref, ...version.aliases, version.served_as && "served"].filter(Boolean).join(", "),
    "data-ref": version.ref,
  });
  const headline = version.headline && `${version.headline.name} ${shortened(version.headline.value)}`;
  const title = svg("text", { x: 14, y: 24 }, version.ref);
  const sub = svg(
    "text",
    { x: 14, y: 43, class: "sub" },
    version.problem ? "damaged" : clipped(headline ?? version.stage),
  );
  node.append(svg("rect", { width: WIDTH, height: HEIGHT, rx: 13 }), title, sub);
  version.aliases.slice(0, 1).forEach((alias) => {
    const wide = 16 + alias.length * 6.7;
    node.append(svg("rect", { class: "badge", x: WIDTH - wide - 8, y: -10, width: wide, height: 18, rx: 9 }));
    node.append(svg("text", { class: "badge-text", x: WIDTH - wide - 1, y: 3 }, alias));
  });
  node.addEventListener("click", (event) => choose(version.ref, event.shiftKey));
  node.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(version.ref, event.shiftKey);
  });
  return node;
}

const shortened = (value) => (typeof value === "number" ? Number(value.toPrecision(3)) : String(value));
const clipped = (text) => (text.length > 21 ? `${text.slice(0, 20)}…` : text);
