// Tools of the model: two that run in this page, and the user's own, which the user answers by hand.

import { calculate } from "./calculator.js";

// Described, and answered, in the words that the models of this project were trained with.
const BUILT_IN = {
  clock: {
    description: "Tells the time.",
    parameters: { type: "object", properties: {}, required: [] },
    run: () => new Date().toTimeString().slice(0, 5),
  },
  calculator: {
    description: "Works out a sum.",
    parameters: {
      type: "object",
      properties: { expression: { type: "string", description: "the sum" } },
      required: ["expression"],
    },
    run: ({ expression }) => String(calculate(String(expression))),
  },
};

export const EXAMPLE = JSON.stringify(
  [
    {
      type: "function",
      function: {
        name: "weather",
        description: "Tells the weather.",
        parameters: {
          type: "object",
          properties: { place: { type: "string", description: "the place" } },
          required: ["place"],
        },
      },
    },
  ],
  null,
  2,
);

/** Definitions to send: the built-in ones that are switched on, then the user's. Throws when they are no array. */
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
    return BUILT_IN[name].run(JSON.parse(call.function.arguments || "{}"));
  } catch (error) {
    return `error: ${error.message}`;
  }
}
