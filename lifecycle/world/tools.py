"""Tools that an assistant of this world may call: their schemas, and calls with the answers they give."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from lifecycle.world.arithmetic import PHRASINGS, draw_sum
from lifecycle.world.holdout import bucket
from lifecycle.world.vocabulary import PLACES, WEATHER


def _schema(name: str, description: str, **arguments: str) -> dict[str, Any]:
    properties = {argument: {"type": "string", "description": text} for argument, text in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: dict[str, dict[str, Any]] = {
    "calculator": _schema("calculator", "Works out a sum.", expression="the sum"),
    "weather": _schema("weather", "Tells the weather.", place="the place"),
    "clock": _schema("clock", "Tells the time."),
}

WEATHER_PHRASINGS = ("What is the weather in the {place}?", "Is it sunny in the {place}?", "How is the weather in the {place}?")
CLOCK_PHRASINGS = ("What time is it?", "Can you tell me the time?", "How late is it?")


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A question that needs a tool, the right call, what the tool returns and what to say then."""

    question: str
    name: str
    arguments: dict[str, str]
    response: str
    answer: str

    def messages(self) -> list[dict[str, Any]]:
        """The call, the response and the answer, as chat messages."""
        call = {"type": "function", "function": {"name": self.name, "arguments": self.arguments}}
        return [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "name": self.name, "content": self.response},
            {"role": "assistant", "content": self.answer},
        ]


def draw_tool_use(rng: random.Random, *, held_out: bool = False) -> ToolUse:
    """A question for one of the tools; sums are of two numbers of three digits."""
    kind = rng.choices(("calculator", "weather", "clock"), (0.6, 0.3, 0.1))[0]
    if kind == "calculator":
        total = draw_sum(rng, held_out=held_out, low=100, high=999)
        arguments = {"expression": total.text}
        return ToolUse(rng.choice(PHRASINGS).format(sum=total.text), kind, arguments, str(total.result), total.solved)
    if kind == "weather":
        place, phrasing = _weather_question(rng, held_out)
        weather = rng.choice(WEATHER)
        answer = f"It is {weather} in the {place}."
        return ToolUse(phrasing.format(place=place), kind, {"place": place}, weather, answer)
    time = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return ToolUse(rng.choice(CLOCK_PHRASINGS), kind, {}, time, f"It is {time}.")


def _weather_question(rng: random.Random, held_out: bool) -> tuple[str, str]:
    """One in five (place, phrasing) combinations is kept for evaluation."""
    while True:
        place, phrasing = rng.choice(PLACES), rng.choice(WEATHER_PHRASINGS)
        if (bucket("weather", place, phrasing, of=5) == 0) == held_out:
            return place, phrasing


def offer(rng: random.Random, needed: str | None = None) -> list[dict[str, Any]]:
    """One to three tool schemas in random order, the needed one among them."""
    names = rng.sample(sorted(TOOLS), rng.randint(1, len(TOOLS)))
    if needed and needed not in names:
        names[rng.randrange(len(names))] = needed
    return [TOOLS[name] for name in names]


def call_json(name: str, arguments: dict[str, str]) -> str:
    """The call as the model writes it between <tool_call> and </tool_call>."""
    return json.dumps({"name": name, "arguments": arguments})
