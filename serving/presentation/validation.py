"""Reads one JSON object field by field; whatever is not asked for is an error, and every error names its field."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from lifecycle.config import near_miss
from serving.domain.errors import InvalidRequest

MISSING = object()


class Fields:
    """The fields of one JSON object; `path` ("messages.0.") prefixes the names in errors. `null` counts as absent."""

    def __init__(self, value: Any, path: str = "") -> None:
        if not isinstance(value, dict):
            raise wrong(path.rstrip(".") or None, "an object", value)
        self._values: Mapping[str, Any] = value
        self._path = path
        self._known: set[str] = set()

    def take(self, name: str) -> Any:
        """The raw value, or None."""
        self._known.add(name)
        return self._values.get(name)

    def param(self, name: str) -> str:
        """The full name of a field, as errors show it."""
        return self._path + name

    def required(self, name: str) -> Any:
        value = self.take(name)
        if value is None:
            raise InvalidRequest(f'"{self.param(name)}" is missing', param=self.param(name))
        return value

    def boolean(self, name: str, default: bool = False) -> bool:
        value = self.take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise wrong(self.param(name), "true or false", value)
        return value

    def integer(self, name: str, low: int, high: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON does not tell 1 from 1.0
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong(self.param(name), "a whole number", value)
        return self._within(name, value, low, high)

    def number(self, name: str, low: float, high: float) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong(self.param(name), "a number", value)
        return float(self._within(name, value, low, high))

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if value is not None and not isinstance(value, str):
            raise wrong(self.param(name), "a string", value)
        return value

    def choice(self, name: str, options: Collection[str]) -> str:
        value = self.required(name)
        if not isinstance(value, str) or value not in options:
            raise wrong(self.param(name), "one of " + ", ".join(options), value)
        return value

    def array(self, name: str) -> list[Any] | None:
        value = self.take(name)
        if value is not None and not isinstance(value, list):
            raise wrong(self.param(name), "an array", value)
        return value

    def ignore(self, *names: str) -> None:
        """Labels that change nothing about the answer."""
        self._known.update(names)

    def unsupported(self, defaults: Mapping[str, tuple[Any, ...]]) -> None:
        """Fields of the API that are accepted only with a value that asks for nothing."""
        for name, harmless in defaults.items():
            value = self.take(name)
            if value is not None and not any(value == one and type(value) is type(one) for one in harmless):
                raise InvalidRequest(f'"{self.param(name)}" is not supported by this server', param=self.param(name))

    def finish(self) -> None:
        """Raises for the first field that nobody asked for."""
        for name in self._values:
            if name not in self._known:
                hint = near_miss(name, self._known)
                raise InvalidRequest(f'unknown field "{self.param(name)}".{hint}', param=self.param(name))

    def _within(self, name: str, value: Any, low: float, high: float) -> Any:
        if not low <= value <= high or (isinstance(value, float) and not math.isfinite(value)):
            raise InvalidRequest(
                f'"{self.param(name)}" must be between {low} and {high}, not {shorten(value)}', param=self.param(name)
            )
        return value


def wrong(param: str | None, expected: str, value: Any) -> InvalidRequest:
    """The error for a value of the wrong kind."""
    subject = f'"{param}"' if param else "the request body"
    return InvalidRequest(f"{subject} must be {expected}, not {describe(value)}", param=param)


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
