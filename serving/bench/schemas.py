"""Random JSON schemas of the kinds that people write for tools and structured output, each with a value that satisfies it.

Every size has a bound, the digits of numbers included, so that an answer of a model that has learned nothing comes to an end.
"""

from __future__ import annotations

import random
from typing import Any

NAMES = ("city", "place", "unit", "count", "name", "date", "items", "price", "id", "note", "kind", "größe")
WORDS = ("red", "green", "low", "high", "a b", 'quo"te', "été", "x/y", "", "kg")
PATTERNS = {
    "[a-z]{2,6}": "abc",
    "^[A-Z][a-z]{0,5}$": "Anna",
    "[0-9]{3}-[0-9]{2}": "123-45",
    "(?:yes|no)!?": "no!",
}
FORMATS = {"date": "2024-02-29", "uuid": "123e4567-e89b-42d3-a456-426614174000", "ipv4": "10.0.0.1"}
Pair = tuple[dict[str, Any], Any]


def draw(rng: random.Random, depth: int = 2) -> Pair:
    """A schema nested at most `depth` deep, and a value for it."""
    kinds = [string, pattern, formatted, integer, number, one_of, constant, optional]
    if depth:
        kinds += [array, draw_object, draw_object, either]
    return rng.choice(kinds)(rng, depth)


def draw_object(rng: random.Random, depth: int = 2) -> Pair:
    """An object with some required and some optional fields, and no others."""
    names = rng.sample(NAMES, rng.randint(1, 3 if depth < 2 else 4))
    fields = {name: draw(rng, max(depth - 1, 0)) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    schema: dict[str, Any] = {"type": "object", "properties": {name: field[0] for name, field in fields.items()}}
    if required:
        schema["required"] = required
    schema["additionalProperties"] = False
    kept = {name: field[1] for name, field in fields.items() if name in required or rng.random() < 0.5}
    return schema, kept


def draw_tool(rng: random.Random, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tool, and arguments for it."""
    parameters, arguments = draw_object(rng)
    function = {"name": name, "description": "Does something.", "parameters": parameters}
    return {"type": "function", "function": function}, arguments


def string(rng: random.Random, depth: int) -> Pair:
    return {"type": "string", "maxLength": rng.randint(4, 12)}, rng.choice(WORDS)[:4]


def pattern(rng: random.Random, depth: int) -> Pair:
    written, value = rng.choice(sorted(PATTERNS.items()))
    if not written.startswith("^"):
        written = f"^{written}$" if "|" not in written else f"^(?:{written})$"
    return {"type": "string", "pattern": written}, value


def formatted(rng: random.Random, depth: int) -> Pair:
    name, value = rng.choice(sorted(FORMATS.items()))
    return {"type": "string", "format": name}, value


def integer(rng: random.Random, depth: int) -> Pair:
    low = rng.randint(-50, 50)
    high = low + rng.randint(0, 1000)
    return {"type": "integer", "minimum": low, "maximum": high}, rng.randint(low, high)


def number(rng: random.Random, depth: int) -> Pair:
    low = rng.randint(-5, 5)
    return {"type": "number", "minimum": low, "exclusiveMaximum": low + 7, "multipleOf": 0.25}, low + 0.25


def one_of(rng: random.Random, depth: int) -> Pair:
    values = rng.sample([*WORDS, 1, 2.5, None, True], 3)
    return {"enum": values}, rng.choice(values)


def constant(rng: random.Random, depth: int) -> Pair:
    value = rng.choice([0, "fixed", [1, 2], {"k": None}])
    return {"const": value}, value


def optional(rng: random.Random, depth: int) -> Pair:
    kind = rng.choice(["boolean", "null"])
    return {"type": [kind, "boolean"]} if kind == "null" else {"type": kind}, True


def array(rng: random.Random, depth: int) -> Pair:
    items, value = draw(rng, depth - 1)
    least = rng.randint(0, 1)
    most = least + rng.randint(0, 2)
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}, [value] * rng.randint(least, most)


def either(rng: random.Random, depth: int) -> Pair:
    options = [draw(rng, depth - 1) for _ in range(2)]
    return {"anyOf": [schema for schema, _ in options]}, rng.choice(options)[1]
