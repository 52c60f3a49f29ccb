// Talking to the server: JSON, and server-sent events over fetch, which unlike EventSource can send a key and a body.

let key = sessionStorage.getItem("lifecycle.key") ?? "";
let askForKey = () => {};

export class ApiError extends Error {
  constructor(status, error) {
    super(status === 401 ? keyWords() : (error?.message ?? `the server answered ${status}`));
    this.status = status;
    this.param = error?.param ?? null;
  }
}

const keyWords = () =>
  key ? "the server does not know this key: enter another one above" : "the server asks for a key: enter it above";

export function setKey(value) {
  key = value.trim();
  sessionStorage.setItem("lifecycle.key", key);
}

/** How a WebSocket, which can have no headers, says the key. */
export const socketProtocols = () => ["realtime", ...(key ? [`openai-insecure-api-key.${key}`] : [])];

/** `ask` is called whenever the server wants a key that it was not given. */
export function onKeyWanted(ask) {
  askForKey = ask;
}

/** For a button that offers to enter another key. */
export const wantKey = () => askForKey();

async function request(path, { body, signal } = {}) {
  const response = await fetch(path, {
    method: body === undefined ? "GET" : "POST",
    headers: {
      ...(key && { Authorization: `Bearer ${key}` }),
      ...(body !== undefined && { "Content-Type": "application/json" }),
    },
    body: body === undefined ? undefined : JSON.stringify(body),
    signal,
  });
  if (response.ok) return response;
  if (response.status === 401) askForKey();
  const answer = await response.json().catch(() => ({}));
  throw new ApiError(response.status, answer.error);
}

export const getJSON = async (path, options) => (await request(path, options)).json();
export const postJSON = async (path, body, options) => (await request(path, { ...options, body })).json();

/** Yields {name, data} of every server-sent event until the stream ends; `data` is parsed, "[DONE]" is left out. */
export async function* events(path, options = {}) {
  const response = await request(path, options);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (held + value).split("\n\n");
      held = blocks.pop();
      for (const block of blocks) {
        const lines = block.split("\n");
        const data = lines
          .filter((line) => line.startsWith("data: "))
          .map((line) => line.slice(6))
          .join("\n");
        if (!data || data === "[DONE]") continue;
        const name = lines.find((line) => line.startsWith("event: "))?.slice(7) ?? "message";
        yield { name, data: JSON.parse(data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Whether nobody answered at all: what fetch throws then. */
export const isOutOfReach = (error) => error instanceof TypeError;

/** What went wrong, as a sentence. */
export function inWords(error) {
  if (isOutOfReach(error)) return "The server cannot be reached. Is it still running?";
  const [first] = error.message.split(" ");
  const start = /^[a-z]+$/.test(first) ? first[0].toUpperCase() : (first[0] ?? "");
  const end = /[.?!]$/.test(error.message) ? "" : ".";
  return `${start}${error.message.slice(1)}${end}`;
}
