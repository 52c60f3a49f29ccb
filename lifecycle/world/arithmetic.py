"""Numbers: sums that a small model does by itself, longer ones that it takes step by step, comparing, sorting, counting."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import bucket, sum_is_held_out
from lifecycle.world.vocabulary import NUMBERS, THINGS

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


@dataclass(frozen=True, slots=True)
class Problem:
    """A question about numbers, the thinking that leads to the answer (empty where none is needed), the answer, and its key."""

    question: str
    thought: str
    answer: str
    key: str


def draw_long_sum(rng: random.Random, *, held_out: bool = False) -> Problem:
    """Three numbers added and subtracted, one step at a time; both steps are sums of training's share or both held out."""
    while True:
        first = draw_sum(rng, held_out=held_out, high=60)
        c, operator = rng.randint(0, 40), rng.choice("+-")
        if first.result > 99 or (operator == "-" and c > first.result):
            continue
        second = Sum(first.result, operator, c)
        if sum_is_held_out(second.a, second.operator, second.b) == held_out:
            text = f"{first.text} {operator} {c}"
            return Problem(rng.choice(PHRASINGS).format(sum=text), f"{first.solved} {second.solved}", f"{text} = {second.result}.", str(second.result))


LARGER = ("Which is larger, {a} or {b}?", "Which number is larger: {a} or {b}?", "What is more, {a} or {b}?")
SMALLER = ("Which is smaller, {a} or {b}?", "Which number is smaller: {a} or {b}?", "What is less, {a} or {b}?")
UPWARDS = ("Sort {numbers}.", "Put {numbers} in order.", "Sort {numbers} from small to large.")
DOWNWARDS = ("Sort {numbers} from large to small.", "Put {numbers} in falling order.")
COUNT = ("How many words are in: {words}?", "Count: {words}.", "How many things are these: {words}?")


def draw_comparison(rng: random.Random, *, held_out: bool = False) -> Problem:
    """Which of two numbers is larger or smaller; one pair in five is held out."""
    while True:
        a, b = rng.sample(range(100), 2)
        if (bucket("compare", min(a, b), max(a, b), of=5) == 0) == held_out:
            break
    larger = rng.random() < 0.5
    key = max(a, b) if larger else min(a, b)
    return Problem(rng.choice(LARGER if larger else SMALLER).format(a=a, b=b), "", f"{key}.", str(key))


def draw_sorting(rng: random.Random, *, held_out: bool = False) -> Problem:
    """Three or four numbers to put in order; one set in five is held out."""
    while True:
        numbers = rng.sample(range(100), rng.randint(3, 4))
        if (bucket("sort", *sorted(numbers), of=5) == 0) == held_out:
            break
    upwards = rng.random() < 0.7
    told = ", ".join(map(str, numbers))
    key = ", ".join(map(str, sorted(numbers, reverse=not upwards)))
    return Problem(rng.choice(UPWARDS if upwards else DOWNWARDS).format(numbers=told), "", f"{key}.", key)


def draw_counting(rng: random.Random, *, held_out: bool = False) -> Problem:
    """Two to eight words to count, numbered in thought; one list in five is held out."""
    while True:
        words = rng.choices(THINGS, k=rng.randint(2, 8))
        if (bucket("count", *words, of=5) == 0) == held_out:
            break
    number = NUMBERS[len(words)]
    thought = " ".join(f"{NUMBERS[place]} {word}" for place, word in enumerate(words, 1))
    return Problem(rng.choice(COUNT).format(words=" ".join(words)), thought, f"{number[0].upper()}{number[1:]}.", number.capitalize())


NUMBER_GAMES = {"comparison": draw_comparison, "sorting": draw_sorting, "counting": draw_counting, "long sum": draw_long_sum}
