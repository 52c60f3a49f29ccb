// Thumbs and choices between two answers, kept by the server where it keeps them.

import { postJSON } from "./api.js";

let available = false;

export function setAvailable(value) {
  available = value;
}

export const isAvailable = () => available;

/** `rating` is "up" or "down". */
export function thumb(messages, answer, model, rating) {
  return postJSON("v1/feedback", { kind: "thumb", rating, messages, answer, model, comment: null });
}

/** `chosen` is 0, 1, or null for neither. */
export function comparison(messages, answers, models, chosen) {
  return postJSON("v1/feedback", { kind: "comparison", messages, answers, chosen, models });
}
