// A line above a view that says what is the matter; where a key is too weak, it offers to enter a stronger one.

import { inWords, wantKey } from "./api.js";
import { el } from "./dom.js";

export function notice(text) {
  return el("div.notice", { role: "status" }, text);
}

/** What a view shows in place of itself when the server refuses it. */
export function refusal(error) {
  if (error.status !== 403) return el("div.notice.wrong", { role: "alert" }, inWords(error));
  const button = el("button.tiny.outlined", { type: "button", onclick: wantKey }, "Enter another key");
  return el("div.notice", { role: "status" }, `${inWords(error)} The chat works with the key that you have. `, button);
}

export const isRefusal = (error) => error.status === 401 || error.status === 403;
