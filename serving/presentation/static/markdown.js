// Markdown to nodes: paragraphs, headings, lists, quotes, tables, code, emphasis, links. Built node by node,
// so whatever a model writes stays text; a link is one only if it leads to http, https or mail.

import { el } from "./dom.js";

const FENCE = /^ {0,3}(```|~~~)\s*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*?)\s*#*$/;
const RULE = /^ {0,3}([-*_])\s*(?:\1\s*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,7})([-*+]|\d{1,9}[.)])\s+(.*)$/;
const TABLE_LINE = /^\s*\|?(\s*:?-+:?\s*\|)+\s*:?-*:?\s*$/;
const MAX_DEPTH = 8;

/** A document fragment for a text that may still grow: what is open at its end counts as closed there. */
export function markdown(text) {
  const fragment = document.createDocumentFragment();
  fragment.append(...blocks(text.split("\n"), 0));
  return fragment;
}

function blocks(lines, depth) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) {
      at += 1;
    } else if (FENCE.test(line)) {
      const [, fence, language] = FENCE.exec(line);
      let end = at + 1;
      while (end < lines.length && lines[end].trim() !== fence) end += 1;
      nodes.push(el("pre", { tabIndex: 0 }, el("code", { title: language }, lines.slice(at + 1, end).join("\n"))));
      at = end + 1;
    } else if (HEADING.test(line)) {
      const [, marks, title] = HEADING.exec(line);
      nodes.push(el(`h${Math.min(marks.length, 4)}`, {}, inline(title)));
      at += 1;
    } else if (RULE.test(line)) {
      nodes.push(el("hr"));
      at += 1;
    } else if (QUOTE.test(line) && depth < MAX_DEPTH) {
      const end = runs(lines, at, (one) => QUOTE.test(one));
      nodes.push(
        el(
          "blockquote",
          {},
          blocks(
            lines.slice(at, end).map((one) => one.replace(QUOTE, "")),
            depth + 1,
          ),
        ),
      );
      at = end;
    } else if (ITEM.test(line) && depth < MAX_DEPTH) {
      const [node, end] = list(lines, at, depth);
      nodes.push(node);
      at = end;
    } else if (line.includes("|") && TABLE_LINE.test(lines[at + 1] ?? "")) {
      const end = runs(lines, at, (one) => one.includes("|"));
      nodes.push(table(lines.slice(at, end)));
      at = end;
    } else {
      const end = Math.max(
        at + 1,
        runs(lines, at, (one) => one.trim() && !begins(one, depth)),
      );
      nodes.push(el("p", {}, inline(lines.slice(at, end).join("\n"))));
      at = end;
    }
  }
  return nodes;
}

/** Whether a line ends the paragraph before it. */
function begins(line, depth) {
  const nests = depth < MAX_DEPTH && (QUOTE.test(line) || ITEM.test(line));
  return nests || FENCE.test(line) || HEADING.test(line) || RULE.test(line);
}

function runs(lines, at, belongs) {
  let end = at;
  while (end < lines.length && belongs(lines[end])) end += 1;
  return end;
}

function list(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const ordered = /\d/.test(mark);
  const items = [];
  let end = at;
  while (end < lines.length) {
    const found = ITEM.exec(lines[end]);
    if (found && found[1].length <= indent.length && /\d/.test(found[2]) === ordered) items.push([found[3]]);
    else if (found && found[1].length <= indent.length) break;
    else if (!lines[end].trim() && !/^ {2,}\S/.test(lines[end + 1] ?? "")) break;
    else if (found || /^ {2,}/.test(lines[end]) || !lines[end].trim())
      items.at(-1).push(lines[end].replace(/^ {1,4}/, ""));
    else break;
    end += 1;
  }
  const properties = ordered && mark.slice(0, -1) !== "1" ? { start: Number(mark.slice(0, -1)) } : {};
  const entries = items.map((item) => {
    const inside = blocks(item, depth + 1);
    // A lone first paragraph needs no space around it.
    return el("li", {}, inside[0]?.nodeName === "P" ? [...inside[0].childNodes, ...inside.slice(1)] : inside);
  });
  return [el(ordered ? "ol" : "ul", properties, entries), end];
}

function table([head, , ...rows]) {
  const cells = (line) =>
    line
      .trim()
      .replace(/^\||\|$/g, "")
      .split(/(?<!\\)\|/)
      .map((cell) => cell.trim().replace(/\\\|/g, "|"));
  const row = (line, kind) =>
    el(
      "tr",
      {},
      cells(line).map((cell) => el(kind, {}, inline(cell))),
    );
  return el(
    "table",
    {},
    el("thead", {}, row(head, "th")),
    el(
      "tbody",
      {},
      rows.map((line) => row(line, "td")),
    ),
  );
}

const SPANS = [
  [/`([^`\n]+)`/, (found) => el("code", {}, found[1])],
  [/\*\*(?=\S)([^\n]*?\S)\*\*/, (found, depth) => el("strong", {}, inline(found[1], depth + 1))],
  [/(?<![\w*])\*(?=[^\s*])([^*\n]*?[^\s*])\*(?![\w*])/, (found, depth) => el("em", {}, inline(found[1], depth + 1))],
  [/~~(?=\S)([^\n]*?\S)~~/, (found, depth) => el("s", {}, inline(found[1], depth + 1))],
  [/\[([^\]\n]+)\]\(([^\s()]+)\)/, (found, depth) => link(found, depth)],
];

/** The nodes of a line: always the span that begins first, then what is left. */
function inline(text, depth = 0) {
  const nodes = [];
  while (text) {
    let first = null;
    for (const [pattern, make] of depth < MAX_DEPTH ? SPANS : []) {
      const found = pattern.exec(text);
      if (found && (first === null || found.index < first.found.index)) first = { found, make };
    }
    if (first === null) break;
    const { found, make } = first;
    nodes.push(text.slice(0, found.index), make(found, depth));
    text = text.slice(found.index + found[0].length);
  }
  return [...nodes, text];
}

function link([whole, label, address], depth) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return whole;
  return el("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank" }, inline(label, depth + 1));
}
