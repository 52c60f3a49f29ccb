"""Values of a request in the words of an error."""

from __future__ import annotations

from typing import Any


def describe(value: Any) -> str:
    """A value in a few words of JSON's vocabulary."""
    if isinstance(value, bool) or value is None or isinstance(value, int | float):
        return {True: "true", False: "false", None: "null"}[value] if not _is_number(value) else shorten(value)
    kinds = {str: "a string", list: "an array", dict: "an object"}
    return shorten(f'"{value}"') if isinstance(value, str) and len(value) < 40 else kinds[type(value)]


def shorten(value: Any, limit: int = 40) -> str:
    """Text of a value that may be huge."""
    text = str(value) if not isinstance(value, int) or value.bit_length() < 256 else "a huge number"
    return text if len(text) <= limit else text[:limit] + "..."


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
