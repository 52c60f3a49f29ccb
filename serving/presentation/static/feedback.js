// Thumbs and choices between two answers, kept by the server where it keeps them.

import { postJSON } from "./api.js";
import { whole } from "./conversation.js";

let available = false;

export function setAvailable(value) {
  available = value;
}

export const isAvailable = () => available;

// The version that gave an answer, since what an alias means may have changed meanwhile.
const from = ({ version, model }) => version ?? model ?? null;

/** `rating` is "up" or "down". */
export function thumb(messages, node, rating) {
  const answer = { answer: whole(node), model: from(node) };
  return postJSON("v1/feedback", { kind: "thumb", rating, messages, ...answer, comment: null });
}

/** Of two answers to `messages`; `chosen` is 0, 1, or null for neither. */
export function comparison(messages, nodes, chosen) {
  const answers = nodes.map(whole);
  return postJSON("v1/feedback", { kind: "comparison", messages, answers, chosen, models: nodes.map(from) });
}

/** What the answer should have been. */
export function correction(messages, node, edited) {
  return postJSON("v1/feedback", { kind: "edit", messages, answer: whole(node), edited: whole({ ...node, content: edited }), model: from(node) });
}
