"""What is found out before an answer that takes more than one look: said step by step, as sums are (`lifecycle/world/arithmetic.py`).

A thought is empty where one look is enough, and where its words would not tell things apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lifecycle.world.sights import words
from lifecycle.world.sights.items import Item

THIRDS = {"columns": ("left", "middle", "right"), "rows": ("top", "middle", "bottom")}
SMALL, LARGE = 0.3, 0.36
"""Extents of what is called small at most and large at least."""


def third(at: float) -> int:
    """0, 1 or 2: nearest to 0.2, 0.5 or 0.8."""
    return 0 if at < 0.35 else 1 if at < 0.65 else 2


def counting(items: Iterable[Item]) -> str:
    """Where each of them is, numbered: "one top left two middle"."""
    places = [item.place for item in items]
    if None in places:
        return ""
    return " ".join(f"{words.COUNTS[n]} {place}" for n, place in enumerate(sorted(places, key=list(words.PLACES).index)))


def placing(items: Sequence[Item], along: str) -> str:
    """In which column or row each is: "columns star left moon middle"."""
    thirds = [third(item.x if along == "columns" else item.y) for item in items]
    if len(set(thirds)) == 1:
        return ""
    return " ".join([along, *(f"{item.word} {THIRDS[along][number]}" for item, number in zip(items, thirds, strict=True))])


def in_reading_order(items: Iterable[Item]) -> list[Item]:
    """From left to right, and from top to bottom."""
    return sorted(items, key=lambda item: (third(item.y), third(item.x)))


def sizing(items: Sequence[Item]) -> str:
    """How large each is: "sizes star large moon small"."""
    sizes = ["small" if item.extent < SMALL else "large" if item.extent > LARGE else "" for item in items]
    return " ".join(["sizes", *(f"{item.word} {size}" for item, size in zip(items, sizes, strict=True))]) if len({*sizes} - {""}) == 2 else ""
