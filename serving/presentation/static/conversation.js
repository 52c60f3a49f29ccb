// A conversation is a tree: editing a question or asking for another answer grows a branch, and each place remembers
// which of its branches is shown. Kept in this browser's localStorage.

const INDEX = "lifecycle.conversations";
const place = (id) => `lifecycle.conversation.${id}`;
const idOf = (key) => (key?.startsWith(place("")) ? key.slice(place("").length) : null);
const MOST = 60; // conversations that are kept

/** As good as `crypto.randomUUID`, which only pages from https or this machine have. */
export function freshId() {
  return [...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(36)).join("");
}

/** An answer as the model wrote it, with what it thought. */
export const whole = ({ thought, content }) => (thought ? `<think>${thought}</think>` : "") + content;

export class Conversation {
  constructor({ id = freshId(), title = "", nodes = [], shown = {}, next = 1 } = {}) {
    this.id = id;
    this.title = title;
    this.nodes = new Map(nodes.map((node) => [node.id, node]));
    this.shown = shown; // parent id -> id of the child on screen
    this.next = next;
  }

  /** Adds a message under `parent` (0: the beginning) and shows it. */
  add(parent, message) {
    const node = { id: this.next++, parent, ...message };
    this.nodes.set(node.id, node);
    this.shown[parent] = node.id;
    this.forgotten = false; // deleted in another tab, and gone on with in this one
    if (!this.title && node.role === "user") this.title = node.content.replace(/\s+/g, " ").slice(0, 60);
    return node;
  }

  children(parent) {
    return [...this.nodes.values()].filter((node) => node.parent === parent);
  }

  /** The messages on screen, first to last. */
  path() {
    const found = [];
    for (let node = this.nodes.get(this.shown[0]); node; node = this.nodes.get(this.shown[node.id])) found.push(node);
    return found;
  }

  /** The messages that lead to a node, itself included. */
  upTo(id) {
    const found = [];
    for (let node = this.nodes.get(id); node; node = this.nodes.get(node.parent)) found.unshift(node);
    return found;
  }

  siblings(node) {
    return this.children(node.parent);
  }

  /** Shows the branch `step` places further. */
  turn(node, step) {
    const all = this.siblings(node);
    const at = all.findIndex((one) => one.id === node.id) + step;
    if (all[at]) this.shown[node.parent] = all[at].id;
  }

  save() {
    if (!this.nodes.size || this.forgotten) return;
    const nodes = [...this.nodes.values()].map(({ tokens, gaze, asGaze, running, ...kept }) => kept); // large
    if (this.#keep(nodes)) return;
    this.#keep(nodes.map(({ parts, strips, ...kept }) => (parts ? { ...kept, unkept: parts.length } : kept)));
  }

  /** False when the browser's storage is full or closed: then the conversation lives on in this page. */
  #keep(nodes) {
    const index = [{ id: this.id, title: this.title }, ...listed().filter((one) => one.id !== this.id)];
    try {
      localStorage.setItem(
        place(this.id),
        JSON.stringify({ id: this.id, title: this.title, nodes, shown: this.shown, next: this.next }),
      );
      localStorage.setItem(INDEX, JSON.stringify(index.slice(0, MOST)));
      for (const old of index.slice(MOST)) localStorage.removeItem(place(old.id));
      return true;
    } catch {
      return false;
    }
  }
}

/** [{id, title}], the newest first. */
export function listed() {
  const found = parsed(localStorage.getItem(INDEX));
  return Array.isArray(found) ? found : [];
}

/** The id of the conversation that another tab has changed, from its storage event; null for anything else. */
export function changedElsewhere({ key, newValue }) {
  return newValue ? idOf(key) : null;
}

/** The id of the conversation that another tab has deleted, likewise. */
export function deletedElsewhere({ key, newValue }) {
  return newValue === null ? idOf(key) : null;
}

export function load(id) {
  const found = parsed(localStorage.getItem(place(id)));
  return found && new Conversation(found);
}

export function forget(id) {
  localStorage.removeItem(place(id));
  localStorage.setItem(INDEX, JSON.stringify(listed().filter((one) => one.id !== id)));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
