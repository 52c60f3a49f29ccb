"""Which pictures there are: composed at random for a skill, and kept where the split allows what they combine."""

from __future__ import annotations

import itertools
import random
import string
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from lifecycle.config import choose
from lifecycle.errors import LifecycleError
from lifecycle.world.sights import words
from lifecycle.world.sights.holdout import (
    colour_is_held_out,
    count_is_held_out,
    couple_is_held_out,
    place_is_held_out,
    writing_is_held_out,
)
from lifecycle.world.sights.items import Item
from lifecycle.world.sights.scene import Colour, Ground, Scene
from lifecycle.world.sights.sprites import FACES, advances

STEP = 64  # extents are whole parts of this, so that sprites are few at the usual size
CONTRAST = 110  # least distance of a ground's colours from a shape's or a writing's, in RGB
LINE = 0.32  # height of the tallest of two lines, as a share of the picture's
TILT = {"drawing": (-15, -8, 0, 0, 8, 15), "shape": (-10, 0, 10), "writing": (-5, 0, 0, 5)}


def scenes(seed: int, split: str = "train", kinds: Sequence[str] | None = None) -> Iterator[Scene]:
    """An endless stream of pictures; the same for the same arguments.

    `split` is "train" (nothing that is held out), "test" (each has a held-out combination for what its kind asks), "unseen"
    (drawings that no other split shows) or "other_style" (training's combinations, drawn in Noto Color Emoji). `kinds`
    are some of `KINDS`, in training of `LOOSE` too; without them, all that the split has. Raises LifecycleError for unknown names.
    """
    possible = choose("split", split, SPLITS)
    for kind in kinds or ():
        choose("kind of picture", kind, dict.fromkeys(possible))
    return _endless(kinds or possible, split, random.Random(f"sights {split} {seed}"))


def _endless(kinds: Sequence[str], split: str, rng: random.Random) -> Iterator[Scene]:
    while True:
        yield _scene(rng.choice(kinds), split, rng)


def scene_of(names: Sequence[str], seed: int) -> Scene:
    """A picture of these drawings, one to nine, each in a place of its own, whatever is held out.

    Raises LifecycleError for a name that is not one of `words.DRAWINGS`, and for too few or too many.
    """
    for name in names:
        choose("drawing", name, words.DRAWINGS)
    if not 1 <= len(names) <= len(words.PLACES):
        raise LifecycleError(f"a picture has room for one to {len(words.PLACES)} drawings, not {len(names)}")
    rng = random.Random(f"scene of {' '.join(names)} {seed}")
    items = _spread([("drawing", name, "openmoji") for name in names], rng, (0.3, 0.4) if len(names) == 1 else (0.24, 0.3))
    return Scene("position", items, draw_ground(items, rng), rng.getrandbits(32))


def held_out(scene: Scene) -> set[str]:
    """The skills for which this picture combines what training never combines."""
    if scene.items[0].kind == "writing":
        return {"digits"} if any(writing_is_held_out(item.word) for item in scene.items) else set()
    found = combined_held_out(scene.items)
    number = Counter(item.word for item in scene.items)
    if scene.kind == "count" and any(count_is_held_out(word, count) for word, count in number.items()):
        found.add("count")
    return found


def combined_held_out(items: Sequence[Item]) -> set[str]:
    """The skills for which drawings and shapes are where, of the colour, or beside what they never are in training."""
    found = set()
    for item in items:
        if item.place and place_is_held_out(item.word, item.place):
            found |= {"object", "position"}
        if item.kind == "shape" and item.colour and colour_is_held_out(item.word, item.colour):
            found.add("colour")
    if any(couple_is_held_out(*couple) for couple in itertools.combinations({item.word: None for item in items}, 2)):
        found.add("relation")
    return found


def _scene(kind: str, split: str, rng: random.Random) -> Scene:
    """The next picture that the split allows.

    The more things, the likelier one is where it is never shown, and the picture is refused. So training decides once how many there are
    and how they are arranged, and draws again only which they are: else most pictures would show a single thing.
    """
    names = words.UNSEEN if split == "unseen" else words.SEEN
    style = "noto" if split == "other_style" else "openmoji"
    palette = Palette(names, style, shapes=split in ("train", "test"))
    composed = rng.getrandbits(32) if split == "train" else None
    while True:
        plan = rng if composed is None else random.Random(composed)
        items = {**KINDS, **LOOSE}[kind](palette, plan, rng)
        scene = Scene(kind, items, draw_ground(items, rng), rng.getrandbits(32))
        held = held_out(scene)
        if split == "unseen" or (kind in held if split == "test" else not held):
            return scene


class Palette:
    """What may be drawn, and a hand that draws it."""

    def __init__(self, names: Sequence[str], style: str, *, shapes: bool) -> None:
        self.names, self.style, self.shapes = names, style, shapes

    def draw(self, number: int, plan: random.Random, rng: random.Random, shapes: float) -> list[tuple[str, str, str]]:
        """`number` different things as (kind, word, look), each a shape with the given probability, as `plan` decides."""
        drawings, forms = rng.sample(self.names, number), rng.sample(words.SHAPES, number)
        found = []
        for drawing, form in zip(drawings, forms, strict=True):
            shape = self.shapes and plan.random() < shapes
            found.append(("shape", form, rng.choice(list(words.COLOURS))) if shape else ("drawing", drawing, self.style))
        return found


def put(thing: tuple[str, str, str], x: float, y: float, extent: float, rng: random.Random, height: float = 1.0) -> Item:
    """This thing about there, moved as little as keeps it inside, tilted a little; `height` is a share of its extent."""
    extent = round(extent * STEP) / STEP
    x, y = (round(min(max(at, half), 1 - half), 3) for at, half in ((x, extent / 2), (y, extent * height / 2)))
    return Item(*thing, x, y, extent, rng.choice(TILT[thing[0]]))


Composer = Callable[[Palette, random.Random, random.Random], tuple[Item, ...]]
"""Composes a picture: the first stream of numbers decides how many things there are and how they are arranged, the second the rest."""


def _object(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """One thing anywhere, or two that may overlap a little."""
    if plan.random() < 0.7:
        (thing,), (x, y) = palette.draw(1, plan, rng, 0.1), rng.choice(list(words.PLACES.values()))
        return (put(thing, x + rng.uniform(-0.1, 0.1), y + rng.uniform(-0.1, 0.1), rng.uniform(0.35, 0.7), rng),)
    one, other = palette.draw(2, plan, rng, 0.1)
    ends = [(0.3, rng.uniform(0.35, 0.65)), (0.7, rng.uniform(0.35, 0.65))]
    if plan.random() < 0.5:
        ends = [(y, x) for x, y in ends]
    return tuple(put(thing, *end, rng.uniform(0.38, 0.5), rng) for thing, end in zip((one, other), ends, strict=True))


def _anywhere(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """One thing of any size, or two of which each has a half, in no place in particular."""
    if plan.random() < 0.4:
        (thing,) = palette.draw(1, plan, rng, 0.1)
        return (put(thing, rng.random(), rng.random(), rng.uniform(0.22, 0.7), rng),)
    halves = [(rng.uniform(0.15, 0.3), rng.random()), (rng.uniform(0.7, 0.85), rng.random())]
    if plan.random() < 0.5:
        halves = [(y, x) for x, y in halves]
    return tuple(put(thing, *half, rng.uniform(0.22, 0.42), rng) for thing, half in zip(palette.draw(2, plan, rng, 0.1), halves, strict=True))


def _crowd(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """Up to four large things or up to seven small ones, all different, none where or beside what is held out; most shapes in colours without a name."""
    if plan.random() < 0.4:
        places, number, off, extents = [(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)], plan.randint(2, 4), 0.1, (0.3, 0.5)
    else:
        places, number, off, extents = list(words.PLACES.values()), plan.randint(4, 7), 0.05, (0.2, 0.34)
    found: list[Item] = []
    while not found:
        for x, y in rng.sample(places, number):
            (thing,) = palette.draw(1, rng, rng, 0.2)
            if thing[0] == "shape" and (thing[2] == "white" or rng.random() < 0.6):  # no ground is far from white and from everything else
                thing = (*thing[:2], rng.choice(words.TINTS))
            item = put(thing, x + rng.uniform(-off, off), y + rng.uniform(-off, off), rng.uniform(*extents), rng)
            if item.word not in {other.word for other in found} and not combined_held_out((*found, item)):
                found.append(item)
    return tuple(found)


def _count(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """One to five of the same, and in every third picture another thing, up to eight in all."""
    (one, other), number = palette.draw(2, plan, rng, 0.3), plan.randint(1, 5)
    others = plan.randint(1, min(5, 8 - number)) if plan.random() < 1 / 3 else 0
    return _spread([one] * number + [other] * others, rng, (0.2, 0.28))


def _colour(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """A shape alone and large, or up to three shapes, or one beside drawings."""
    number = plan.randint(1, 3)
    things = palette.draw(number, plan, rng, 1.0)
    if number == 1:
        return (put(things[0], rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.35, 0.65), rng),)
    things[1:] = [thing if plan.random() < 0.7 else other for thing, other in zip(things[1:], palette.draw(number, plan, rng, 0)[1:], strict=True)]
    return _spread(things, rng, (0.22, 0.3))


def _position(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """One or two things, each clearly in one of the nine places."""
    return _spread(palette.draw(plan.choice((1, 1, 2)), plan, rng, 0.25), rng, (0.24, 0.34))


def _relation(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """Two or three things apart from each other; two far apart may differ in size."""
    things = palette.draw(plan.choice((2, 3, 3)), plan, rng, 0.25)
    if len(things) == 3 or plan.random() < 0.4:
        return _spread(things, rng, (0.22, 0.3))
    ends = [(0.24, rng.uniform(0.25, 0.75)), (0.76, rng.uniform(0.25, 0.75))]
    if plan.random() < 0.5:
        ends = [(y, x) for x, y in ends]
    rng.shuffle(ends)
    extents = (rng.uniform(0.4, 0.46), rng.uniform(0.22, 0.27))
    return tuple(put(thing, *end, extent, rng) for thing, end, extent in zip(things, ends, extents, strict=True))


def _digits(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """A number of one to four digits, or a short word."""
    if plan.random() < 0.7:
        digits = plan.randint(1, 4)
        text = str(rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits))
    else:
        text = rng.choice(words.WRITTEN)
    least, most = {1: (0.35, 0.55), 2: (0.45, 0.7)}.get(len(text), (0.7, 0.92))
    look = f"{rng.choice(list(words.COLOURS))} {rng.choice(FACES)}"
    extent = rng.uniform(least, most)
    return (put(("writing", text, look), rng.uniform(0.35, 0.65), rng.uniform(0.25, 0.75), extent, rng),)


def _signs(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Item, ...]:
    """Two lines, each of two to five digits or letters that spell nothing in particular."""
    lines = []
    for y in (0.27, 0.73):
        number, known = plan.randint(2, 5), plan.choice((string.digits, string.ascii_lowercase))
        least, most = (0.4, 0.6) if number == 2 else (0.55, 0.92)
        text = "".join(rng.choices(known, k=number))
        look = f"{rng.choice(list(words.COLOURS))} {rng.choice(FACES)}"
        height = min(1.0, advances(text, look)[1])
        extent = min(rng.uniform(least, most), LINE / height)
        lines.append(put(("writing", text, look), rng.uniform(0.3, 0.7), y + rng.uniform(-0.05, 0.05), extent, rng, height))
    return tuple(lines)


def _spread(things: Sequence[tuple[str, str, str]], rng: random.Random, extents: tuple[float, float]) -> tuple[Item, ...]:
    """Each thing in a place of its own."""
    places = rng.sample(list(words.PLACES.values()), len(things))
    return tuple(
        put(thing, x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02), rng.uniform(*extents), rng)
        for thing, (x, y) in zip(things, places, strict=True)
    )


KINDS: dict[str, Composer] = {
    "object": _object,
    "count": _count,
    "colour": _colour,
    "position": _position,
    "relation": _relation,
    "digits": _digits,
}
"""By the skill that a picture is composed for; most pictures answer questions of other skills as well."""
LOOSE: dict[str, Composer] = {"anywhere": _anywhere, "crowd": _crowd, "signs": _signs}
"""Kinds that only training has: what is held out is a place, and what lies between places shows how a thing looks there; and where
many things or signs are to be seen, much can be learnt from one picture."""
SPLITS: dict[str, tuple[str, ...]] = {
    "train": (*KINDS, *LOOSE),
    "test": tuple(KINDS),
    "unseen": ("object",),
    "other_style": ("object", "count", "position", "relation"),
}
"""With the kinds of pictures that each has."""


def draw_ground(items: Sequence[Item], rng: random.Random) -> Ground:
    """Plain or a gradient, light under drawings, and far from the colour of every shape and writing."""
    colours = [words.rgb(item.look.split()[0]) for item in items if item.kind != "drawing"]
    darkest = 165 if any(item.kind == "drawing" for item in items) else 60
    first = _tint(darkest, colours, rng)
    last = first if rng.random() < 0.4 else _tint(darkest, colours, rng)
    direction = rng.choice(((1.0, 0.0), (0.0, 1.0), (0.5, 0.5)))
    return Ground(first, last, direction, rng.choice((0, 0, 0, 3, 6)))


def _tint(darkest: int, avoid: Sequence[Colour], rng: random.Random) -> Colour:
    while True:
        grey = rng.randint(darkest, 255)
        tint = tuple(min(255, max(0, grey + rng.randint(-30, 30))) for _ in range(3))
        if all(sum((a - b) ** 2 for a, b in zip(tint, colour, strict=True)) >= CONTRAST**2 for colour in avoid):
            return tint
