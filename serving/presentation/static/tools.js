// Tools of the model: two that run in this page, and the user's own, which the user answers by hand.

import { calculate } from "./calculator.js";

const BUILT_IN = {
  clock: {
    description: "The current date and time where the user is.",
    parameters: { type: "object", properties: {} },
    run: () => ({ now: new Date().toString() }),
  },
  calculator: {
    description: "The value of an arithmetic expression.",
    parameters: { type: "object", properties: { expression: { type: "string" } }, required: ["expression"] },
    run: ({ expression }) => ({ result: calculate(String(expression)) }),
  },
};

export const EXAMPLE = JSON.stringify(
  [
    {
      type: "function",
      function: {
        name: "get_weather",
        description: "The weather in a city right now.",
        parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
      },
    },
  ],
  null,
  2,
);

/** Definitions to send: the built-in ones that are switched on, then the user's. Throws when those are no JSON array. */
export function definitions(switchedOn, written) {
  const own = written.trim() ? JSON.parse(written) : [];
  if (!Array.isArray(own)) throw new Error("write an array: [{…}]");
  const taken = new Set(own.map((tool) => tool?.function?.name));
  const built = switchedOn
    .filter((name) => !taken.has(name)) // a tool of the user's own hides a built-in one of that name
    .map((name) => {
      const { description, parameters } = BUILT_IN[name];
      return { type: "function", function: { name, description, parameters } };
    });
  return [...built, ...own];
}

/** The result of a call, as text; null when this page cannot answer it and the user has to. */
export function answer(call, switchedOn, written) {
  const { name } = call.function;
  const own = written.trim() ? JSON.parse(written) : [];
  if (!switchedOn.includes(name) || own.some((tool) => tool?.function?.name === name)) return null;
  try {
    return JSON.stringify(BUILT_IN[name].run(JSON.parse(call.function.arguments || "{}")));
  } catch (error) {
    return JSON.stringify({ error: error.message });
  }
}
