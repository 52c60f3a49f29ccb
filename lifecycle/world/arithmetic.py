"""Sums that a small model can do by itself, and larger ones that are a calculator's business."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import sum_is_held_out

PHRASINGS = ("What is {sum}?", "How much is {sum}?", "Can you work out {sum}?", "{sum} = ?")


@dataclass(frozen=True, slots=True)
class Sum:
    """`a operator b`, with operator "+" or "-"."""

    a: int
    operator: str
    b: int

    @property
    def result(self) -> int:
        return self.a + self.b if self.operator == "+" else self.a - self.b

    @property
    def text(self) -> str:
        return f"{self.a} {self.operator} {self.b}"

    @property
    def solved(self) -> str:
        return f"{self.text} = {self.result}."


def draw_sum(rng: random.Random, *, held_out: bool = False, low: int = 0, high: int = 99) -> Sum:
    """A sum of two numbers in [low, high] from training's share or the held-out one; differences are never negative."""
    while True:
        a, b, operator = rng.randint(low, high), rng.randint(low, high), rng.choice("++-")
        if operator == "-" and a < b:
            a, b = b, a
        if sum_is_held_out(a, operator, b) == held_out:
            return Sum(a, operator, b)
