"""Which words are true of which part of a picture: what a tower of patches learns to tell, place by place.

A picture is cut into squares, and a square says what covers it. Words are grouped into topics, of each of which one word at most is
true of a square. Large squares, which a language model reads, say "nothing" at a thing's edge and where two things meet: half a word would be heard as another one.
There the name of a small square is not learnt.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lifecycle.world.sights import words
from lifecycle.world.sights.items import Item
from lifecycle.world.sights.scene import Scene
from lifecycle.world.sights.sprites import advances
from lifecycle.world.vocabulary import NUMBERS

SIGNS = tuple("0123456789abcdefghijklmnopqrstuvwxyz")
MOST_SIGNS = 5
TOPICS: dict[str, tuple[str, ...]] = {
    "name": (*words.SEEN, *words.SHAPES, "number", "word"),
    "colour": tuple(words.COLOURS),
    "column": ("left", "middle", "right"),
    "row": ("top", "middle", "bottom"),
    "count": words.COUNTS,
    "size": ("small", "large"),
    **{f"sign {place}": SIGNS for place in range(1, MOST_SIGNS + 1)},
}
"""Of a thing: what it is called, its colour, in which third of the picture it is, how many there are, whether it is large; of
writing, which signs stand in this part, each under its place in the word."""
NEAR: dict[str, tuple[str, ...]] = {
    "name": TOPICS["name"],
    "sign": SIGNS,
    "place": tuple(map(str, range(1, MOST_SIGNS + 1))),
    "centre": ("centre",),
    "number": NUMBERS[1:10],
}
"""What a small square says: of a thing its name, of a sign which it is and its place in the word, of both whether the middle is here;
and, wherever it is, how many things there are in the picture."""
NOTHING, UNSAID = 0, -100
"""Nothing is there, or nothing is to be said; whatever is there, it is not to be learnt. Words are counted from 1."""
SMALL, LARGE = 0.3, 0.36  # extents
CORE, EDGE = 1.0, 1.4  # how far from a thing's centre a square still belongs to it and still touches it, in its reach
AMBIGUOUS = 0.25  # of the same, between two things


def about_parts(scene: Scene, side: int, size: int) -> np.ndarray:
    """int64 [side * side, topics]: numbers of words for each of side x side squares of a picture of `size` pixels."""
    said = np.full((side * side, len(TOPICS)), UNSAID)
    said[:, 0] = NOTHING
    if scene.items[0].kind == "writing":
        said[:, _SIGNS:] = NOTHING
        for item in scene.items:
            _sign_parts(item, said, _centres(side, size), size, size / side)
        return said
    number = Counter(item.word for item in scene.items)
    reaches = [max(0.625 * size / side, 0.42 * item.extent * size) for item in scene.items]
    for part, owner in enumerate(_owners(scene.items, reaches, _centres(side, size), size)):
        if owner > NOTHING:
            item = scene.items[owner - 1]
            count = number[item.word] if scene.kind == "count" and number[item.word] <= len(words.COUNTS) else UNSAID
            large = 1 if item.extent < SMALL else 2 if item.extent > LARGE else UNSAID
            colour = NOTHING if item.kind == "drawing" else _number("colour", item.colour)
            said[part, :_SIGNS] = _number("name", item.word), colour, _third(item.x), _third(item.y), count, large
    return said


def about_patches(scene: Scene, side: int, size: int) -> np.ndarray:
    """int64 [side * side, topics of `NEAR`]: the same for small squares."""
    said = np.zeros((side * side, len(NEAR)), np.int64)
    x, y = _centres(side, size)
    if scene.items[0].kind == "writing":
        said[:, 0] = said[:, _NUMBER] = UNSAID
        written = itertools.chain(*(enumerate(signs(item, size), start=1) for item in scene.items))
        for place, (sign, at_x, at_y, width, height) in written:
            said[_square(at_x, at_y, side, size), _CENTRE] = 1
            far = np.maximum(abs(at_x - x) / max(0.52 * size / side, 0.42 * width), abs(at_y - y) / max(0.52 * size / side, 0.35 * height))
            said[far <= 1, 1:_CENTRE] = SIGNS.index(sign) + 1, place
            said[(far > 1) & (far <= 1.7) & (said[:, 1] == NOTHING), 1:_CENTRE] = UNSAID
        return said
    names = np.array([_number("name", item.word) for item in scene.items])
    owners = _owners(scene.items, [0.4 * item.extent * size for item in scene.items], (x, y), size)
    said[:, 0] = np.where(owners > 0, names[np.maximum(owners, 1) - 1], owners)
    said[:, _NUMBER] = len(scene.items)
    for item in scene.items:
        said[_square(item.x * size, item.y * size, side, size), _CENTRE] = 1
    return said


def signs(item: Item, size: int) -> list[tuple[str, float, float, float, float]]:
    """The signs of a writing: each with its centre, its width and its height in pixels."""
    ends, tall = advances(item.word, item.look)
    width = item.extent * size * min(1.0, 1 / tall)
    turn = math.radians(item.angle)
    found = []
    for sign, start, end in zip(item.word, ends, ends[1:], strict=False):
        along = ((start + end) / 2 - 0.5) * width
        at = item.x * size + along * math.cos(turn), item.y * size - along * math.sin(turn)
        found.append((sign, *at, (end - start) * width, tall * width))
    return found


def _sign_parts(item: Item, said: np.ndarray, centres: tuple[np.ndarray, np.ndarray], size: int, part: float) -> None:
    """Signs whose centres are in a part or hardly outside."""
    kind = _number("name", "number" if item.word.isdigit() else "word")
    for place, (sign, at_x, at_y, *_) in enumerate(signs(item, size)):
        out = np.maximum(abs(at_x - centres[0]), abs(at_y - centres[1])) / part - 0.5
        inside = out <= 1 / 8
        said[inside, _SIGNS + place] = SIGNS.index(sign) + 1
        said[inside, 0], said[inside, 1] = kind, _number("colour", item.colour)


def _owners(
    items: Sequence[Item], reaches: Sequence[float], centres: tuple[np.ndarray, np.ndarray], size: int
) -> np.ndarray:
    """Of every square the number of the thing that covers it, from 1; `NOTHING` far from all, `UNSAID` at an edge."""
    far = np.stack(
        [np.maximum(abs(item.x * size - centres[0]), abs(item.y * size - centres[1])) / reach for item, reach in zip(items, reaches, strict=True)]
    )
    nearest = np.sort(far, axis=0)
    unclear = nearest[0] > CORE
    if len(items) > 1:
        unclear |= nearest[1] - nearest[0] < AMBIGUOUS
    return np.where(nearest[0] > EDGE, NOTHING, np.where(unclear, UNSAID, far.argmin(0) + 1))


def _square(x: float, y: float, side: int, size: int) -> int:
    """Number of the square in which a point is, or of the nearest one."""
    column, row = (min(max(int(at * side / size), 0), side - 1) for at in (x, y))
    return row * side + column


def _centres(side: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the squares, in pixels, row by row."""
    along = (np.arange(side) + 0.5) * size / side
    return np.tile(along, side), np.repeat(along, side)


def _number(topic: str, word: str | None) -> int:
    return TOPICS[topic].index(word) + 1 if word in TOPICS[topic] else UNSAID


def _third(at: float) -> int:
    """1, 2 or 3: nearest to 0.2, 0.5 or 0.8."""
    return 1 if at < 0.35 else 2 if at < 0.65 else 3


_SIGNS, _CENTRE, _NUMBER = list(TOPICS).index("sign 1"), list(NEAR).index("centre"), list(NEAR).index("number")
