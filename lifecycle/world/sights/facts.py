"""Short statements about a picture, true ones and false ones that are nearly true: "a cat at the top", "two red stars"."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator

from lifecycle.world.sights import words
from lifecycle.world.sights.holdout import colour_is_held_out, count_is_held_out, place_is_held_out, writing_is_held_out
from lifecycle.world.sights.questions import OPPOSITE, described, genre, sides_of
from lifecycle.world.sights.scene import Item, Scene

ORDINALS = ("first", "second", "third", "fourth")
MISREADINGS = 3  # false numbers beside a true one


def facts(scene: Scene, rng: random.Random) -> tuple[list[str], list[str]]:
    """What is true of a picture, and as much that is not but differs from it in one word.

    Neither states a combination that is held out, as long as the picture shows none.
    """
    if scene.items[0].kind == "writing":
        item = scene.items[0]
        signs = list(_signs(item.word, rng))
        true, false = [sign for sign, _ in signs], [other for _, other in signs]
        return [_written(item.word), *true], [*map(_written, _misread(item, rng)), *false]
    pairs = [pair for about in (_things, _places, _numbers, _sides) for pair in about(scene, rng)]
    true = list(dict.fromkeys(pair[0] for pair in pairs))
    return true, [false for _, false in pairs if false and false not in true]


Pair = tuple[str, str | None]
"""What is true, and what is false in its place."""


def _things(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    shown = {described(item) for item in scene.items}
    for item in dict.fromkeys(scene.items):
        yield words.a(item.word), None
        if item.colour:
            others = [f"{other} {item.word}" for other in words.COLOURS if not colour_is_held_out(item.word, other)]
            yield words.a(described(item)), words.a(rng.choice([other for other in others if other not in shown]))


def _places(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    number = Counter(item.word for item in scene.items)
    for item in scene.items:
        if item.place and number[item.word] == 1:
            others = [place for place in words.PLACES if place != item.place and not place_is_held_out(item.word, place)]
            name = words.a(item.word)
            yield f"{name} {words.at(item.place)}", f"{name} {words.at(rng.choice(others))}"


def _numbers(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    if scene.kind == "count":
        for word, number in Counter(item.word for item in scene.items).items():
            if number <= len(words.COUNTS):
                others = [n for n in range(1, len(words.COUNTS) + 1) if n != number and not count_is_held_out(word, n)]
                yield words.number_of(word, number), words.number_of(word, rng.choice(others))


def _sides(scene: Scene, rng: random.Random) -> Iterator[Pair]:
    if len({item.word for item in scene.items}) == len(scene.items):
        for one, other in itertools.permutations(scene.items, 2):
            for side in sides_of(one, other):
                yield tuple(f"{words.a(one.word)} {this} {words.a(other.word)}" for this in (side, OPPOSITE[side]))


def _written(text: str) -> str:
    return f"the {genre(text)} {text}"


def _signs(text: str, rng: random.Random) -> Iterator[Pair]:
    """ "first digit 4", "last letter k"."""
    kind, signs = ("digit", "0123456789") if text.isdigit() else ("letter", "abcdefghijklmnopqrstuvwxyz")
    for place, sign in [*zip(ORDINALS, text, strict=False), ("last", text[-1])]:
        yield f"{place} {kind} {sign}", f"{place} {kind} {rng.choice(signs.replace(sign, ''))}"


def _misread(item: Item, rng: random.Random) -> Iterator[str]:
    """Numbers of as many digits: most with one that is another, some with two that have changed places."""
    digits = list(item.word)
    for _ in range(MISREADINGS if item.word.isdigit() else 0):
        read, place = digits.copy(), rng.randrange(len(digits))
        if rng.random() < 0.75:
            read[place] = rng.choice("0123456789")
        else:
            other = rng.randrange(len(digits))
            read[place], read[other] = read[other], read[place]
        text = "".join(read)
        if read != digits and (len(read) == 1 or read[0] != "0") and not writing_is_held_out(text):
            yield text
