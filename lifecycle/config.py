"""Presets and overrides: the same frozen dataclass from the command line, a notebook or a file."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lifecycle.errors import LifecycleError

Config = TypeVar("Config")


def near_miss(word: str, known: Iterable[str]) -> str:
    """' Did you mean "x"?' when something known is close to `word`, else an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f' Did you mean "{close[0]}"?' if close else ""


def choose(kind: str, name: str, known: Mapping[str, Config]) -> Config:
    """`known[name]`, or a LifecycleError that lists what there is."""
    if name not in known:
        raise LifecycleError(f'unknown {kind} "{name}": choose one of {", ".join(sorted(known))}.{near_miss(name, known)}')
    return known[name]


def check_output(path: Path | None) -> None:
    """Raises LifecycleError for a file that could not be written once the work is done."""
    if path is not None and not path.parent.is_dir():
        raise LifecycleError(f"{path} cannot be written: there is no directory {path.parent}")


def check_seed(seed: int) -> None:
    """Raises LifecycleError for one that random number generators do not take."""
    if not 0 <= seed < 2**32:
        raise LifecycleError(f"seed must be from 0 to {2**32 - 1}, not {seed}")


def check_above_zero(config: Any, *names: str) -> None:
    """Raises LifecycleError for a field that is neither above zero nor None."""
    for name in names:
        if (value := getattr(config, name)) is not None and not value > 0:
            raise LifecycleError(f"{name} must be above zero, not {value}")


def check_not_negative(config: Any, name: str, zero: str) -> None:
    """Raises LifecycleError for a field below zero; `zero` says what 0 does, as in "is greedy"."""
    if not (value := getattr(config, name)) >= 0:
        raise LifecycleError(f"{name} must not be negative, but is {value}: 0 {zero}")


def override(config: Config, changes: Mapping[str, Any]) -> Config:
    """A copy of a dataclass with fields replaced; strings are parsed to the field's type.

    Raises LifecycleError for an unknown key (naming the near miss) or a value of the wrong type.
    """
    hints = typing.get_type_hints(type(config))
    parsed = {}
    for key, value in changes.items():
        if key not in hints:
            raise LifecycleError(f'unknown key "{key}": {type(config).__name__} has {", ".join(hints)}.{near_miss(key, hints)}')
        parsed[key] = _parse(key, value, hints[key])
    return dataclasses.replace(config, **parsed)


def parse_assignments(words: Iterable[str]) -> dict[str, str]:
    """`["lr=1e-3", "steps=10"]` to a dict; raises LifecycleError for a word without "="."""
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise LifecycleError(f'cannot read "{word}": write KEY=VALUE, for example --set seed=1')
        pairs[key.strip()] = value.strip()
    return pairs


def _parse(key: str, value: Any, hint: Any) -> Any:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None or (isinstance(value, str) and value.lower() == "none" and type(None) in options):
        if type(None) in options:
            return None
        raise LifecycleError(f'"{key}" needs a value')
    kind = next(option for option in options if option is not type(None))
    if typing.get_origin(kind) is typing.Literal:
        if value in typing.get_args(kind):
            return value
        raise LifecycleError(f'unknown {key} "{value}": choose one of {", ".join(map(str, typing.get_args(kind)))}')
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        if kind in (int, float) and isinstance(value, str):
            return int(value.replace("_", "")) if kind is int else float(value)
        if isinstance(value, bool) and kind is not bool:
            raise TypeError
        value = float(value) if kind is float else value
        if not isinstance(value, kind):
            raise TypeError
        return value
    except (ValueError, KeyError, TypeError):
        raise LifecycleError(f'"{key}" must be {kind.__name__}, not {value!r}') from None
