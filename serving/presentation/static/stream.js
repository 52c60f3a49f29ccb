// One streamed answer: from the chunks of /v1/chat/completions to a message that grows.

import { ApiError, events } from "./api.js";

const MEASURABLE = 0.02; // seconds: a shorter answer came in one piece and has no rate

/** Fills `node` (content, thought, version, tool_calls, tokens, facts) and calls `grown` at each chunk; throws what fails. */
export async function streamInto(node, request, signal, grown) {
  const clock = { sent: performance.now(), first: null, last: null, pieces: 0 };
  let count = null;
  let reason = null;
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  try {
    for await (const { data } of events("v1/chat/completions", { body, signal })) {
      if (data.error) throw new ApiError(200, data.error);
      count = data.usage?.completion_tokens ?? count;
      node.version = data.system_fingerprint;
      const choice = data.choices[0];
      if (!choice) continue;
      reason = choice.finish_reason ?? reason;
      if (choice.delta.content || choice.delta.reasoning_content || choice.delta.tool_calls) {
        clock.first ??= performance.now();
        clock.last = performance.now();
        clock.pieces += 1;
      }
      node.content += choice.delta.content ?? "";
      if (choice.delta.reasoning_content) node.thought = (node.thought ?? "") + choice.delta.reasoning_content;
      if (choice.logprobs?.content) (node.tokens ??= []).push(...choice.logprobs.content);
      for (const delta of choice.delta.tool_calls ?? []) addCall(node, delta);
      grown();
    }
    if (reason === null) throw new Error("the connection broke before the answer was complete");
  } finally {
    node.facts = facts(clock, count ?? clock.pieces, reason, signal.aborted);
  }
}

function addCall(node, { index, id, function: { name, arguments: text } = {} }) {
  node.tool_calls ??= [];
  const call = (node.tool_calls[index] ??= { id, type: "function", function: { name: "", arguments: "" } });
  call.function.name += name ?? "";
  call.function.arguments += text ?? "";
}

function facts(clock, tokens, reason, aborted) {
  const seconds = (clock.last - clock.first) / 1000;
  const wait = clock.first - clock.sent;
  const said = [];
  if (clock.first !== null) {
    said.push(`${tokens} token${tokens === 1 ? "" : "s"}`);
    if (tokens > 1 && seconds >= MEASURABLE) said.push(`${rate((tokens - 1) / seconds)} tokens/s`);
    said.push(`first after ${wait < 1000 ? `${Math.round(wait)} ms` : `${(wait / 1000).toFixed(1)} s`}`);
  }
  if (aborted) said.push("stopped");
  else if (reason === "length") said.push("cut at its longest");
  return said.join("  ·  ");
}

const rate = (value) => (value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(1));
