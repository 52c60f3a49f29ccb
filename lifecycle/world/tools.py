"""Tools that an assistant of this world may call: their schemas, and calls with the answers they give."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lifecycle.world.arithmetic import PHRASINGS, draw_sum
from lifecycle.world.holdout import bucket
from lifecycle.world.knowledge import draw_search
from lifecycle.world.vocabulary import PLACES, WEATHER


def _schema(name: str, description: str, **arguments: str) -> dict[str, Any]:
    properties = {argument: {"type": "string", "description": text} for argument, text in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: dict[str, dict[str, Any]] = {
    "calculator": _schema("calculator", "Works out a sum.", expression="the sum"),
    "weather": _schema("weather", "Tells the weather.", place="the place"),
    "clock": _schema("clock", "Tells the time."),
    "search": _schema("search", "Looks a fact up.", query="what to look for"),
}

WEATHER_PHRASINGS = (
    "What is the weather in the {place}?", "Is it sunny in the {place}?", "How is the weather in the {place}?",
    "What is it like outside in the {place}?", "Does it rain in the {place}?",
)  # fmt: skip
CLOCK_PHRASINGS = ("What time is it?", "Can you tell me the time?", "How late is it?", "What does the clock say?")


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
    kinds = list(_USES)
    return _USES[rng.choices(kinds, (0.45, 0.25, 0.1, 0.2))[0]](rng, held_out)


def _calculator(rng: random.Random, held_out: bool) -> ToolUse:
    total = draw_sum(rng, held_out=held_out, low=100, high=999)
    return ToolUse(
        rng.choice(PHRASINGS).format(sum=total.text), "calculator", {"expression": total.text}, str(total.result), total.solved
    )


def _weather(rng: random.Random, held_out: bool) -> ToolUse:
    """One in five (place, phrasing) combinations is kept for evaluation."""
    while True:
        place, phrasing = rng.choice(PLACES), rng.choice(WEATHER_PHRASINGS)
        if (bucket("weather", place, phrasing, of=5) == 0) == held_out:
            break
    weather = rng.choice(WEATHER)
    return ToolUse(phrasing.format(place=place), "weather", {"place": f"the {place}"}, weather, f"It is {weather} in the {place}.")


def _clock(rng: random.Random, held_out: bool) -> ToolUse:
    time = f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}"
    return ToolUse(rng.choice(CLOCK_PHRASINGS), "clock", {}, time, f"It is {time}.")


def _search(rng: random.Random, held_out: bool) -> ToolUse:
    question, query, found, answer = draw_search(rng, held_out=held_out)
    return ToolUse(question, "search", {"query": query}, found, answer)


_USES: dict[str, Callable[[random.Random, bool], ToolUse]] = {
    "calculator": _calculator,
    "weather": _weather,
    "clock": _clock,
    "search": _search,
}


def offer(rng: random.Random, needed: str | None = None) -> list[dict[str, Any]]:
    """One to three tool schemas in random order, the needed one among them."""
    names = rng.sample(sorted(TOOLS), rng.randint(1, 3))
    if needed and needed not in names:
        names[rng.randrange(len(names))] = needed
    return [TOOLS[name] for name in names]


def call_json(name: str, arguments: dict[str, str]) -> str:
    """The call as the model writes it between <tool_call> and </tool_call>."""
    return json.dumps({"name": name, "arguments": arguments})
