"""Moving pictures: things that move, appear, vanish, or turn into something else, over `LENGTH` frames."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from lifecycle.config import choose
from lifecycle.world.sights import words
from lifecycle.world.sights.holdout import count_is_held_out, event_is_held_out
from lifecycle.world.sights.items import Item
from lifecycle.world.sights.questions import Question, described, ended, moved, phrase
from lifecycle.world.sights.sampling import Palette, draw_ground, held_out, put
from lifecycle.world.sights.scene import Ground, Scene

LENGTH = 8  # frames of a clip
FIRST, LAST = 2, 6  # frames in which something may appear, vanish or turn into something else
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOST = 5  # of the same, at the beginning and at the end


@dataclass(frozen=True, slots=True)
class Actor:
    """One thing and the one event that befalls it."""

    item: Item
    """How it is at first."""
    event: str
    """"stays", "moves", "appears", "vanishes" or "turns"."""
    detail: str = ""
    """The direction in which it moves; the colour or the drawing that it turns into."""
    at: int = 0
    """The first frame in which it is there, not there any more, or otherwise."""
    distance: float = 0.0
    """How far it moves from the first frame to the last, as a share of the picture's side."""

    def in_frame(self, number: int) -> Item | None:
        """How it is in that frame; None while it is not there."""
        if self.event == "moves":
            way = DIRECTIONS[self.detail]
            far = self.distance * number / (LENGTH - 1)
            return replace(self.item, x=self.item.x + way[0] * far, y=self.item.y + way[1] * far)
        after = number >= self.at
        if self.event in ("appears", "vanishes"):
            return self.item if after == (self.event == "appears") else None
        if self.event == "turns" and after:
            return replace(self.item, **{"look" if self.item.kind == "shape" else "word": self.detail})
        return self.item


@dataclass(frozen=True, slots=True)
class Clip:
    """Everything that a clip shows; equal clips render to equal pixels."""

    kind: str
    """What it was composed for, one of `KINDS`."""
    actors: tuple[Actor, ...]
    """From the back to the front."""
    ground: Ground
    seed: int
    """Of the noise, which stays as it is, and of the words of caption and questions."""

    def scene(self, number: int) -> Scene:
        """What frame `number` shows."""
        items = tuple(item for actor in self.actors if (item := actor.in_frame(number)))
        return Scene(self.kind, items, self.ground, self.seed)

    def pictures(self, size: int = 64) -> list[Image.Image]:
        """`LENGTH` PIL images."""
        return [self.scene(number).picture(size) for number in range(LENGTH)]

    def frames(self, size: int = 64) -> np.ndarray:
        """uint8 [LENGTH, size, size, 3], RGB; raises LifecycleError where a font is missing."""
        return np.stack([np.asarray(picture) for picture in self.pictures(size)])

    def caption(self) -> str:
        """A sentence for everything that happens, in the order in which it does."""
        if _counted(self.actors):
            one, other = (words.COUNTS[len(self.scene(number).items) - 1] for number in (0, LENGTH - 1))
            return f"The number of {words.plural(self.actors[0].item.word)} changes from {one} to {other}."
        return " ".join(_told(actor) for actor in sorted(self.actors, key=lambda actor: actor.at))

    def questions(self) -> list[Question]:
        """All that can be asked about it without ambiguity."""
        rng = random.Random(f"clip questions {self.seed}")
        if self.kind == "video_direction":
            return list(_directions(self.actors, rng))
        return [question for ask in (_events, _order, _numbers) for question in ask(self.actors, rng)]


def clips(seed: int, split: str = "train", kinds: Sequence[str] | None = None) -> Iterator[Clip]:
    """An endless stream of clips; the same for the same arguments.

    `split` is "train", in which nothing held out is ever in a frame or happens, or "test", in which each clip has an event
    or a number at its end that is held out. `kinds` are some of `KINDS`. Raises LifecycleError for unknown names.
    """
    choose("split", split, {"train": None, "test": None})
    for kind in kinds or ():
        choose("kind of clip", kind, KINDS)
    return _endless(tuple(kinds or KINDS), split == "test", random.Random(f"clips {split} {seed}"))


def holds_out(clip: Clip) -> bool:
    """Whether an event is held out, or, where things become more or fewer, how many there are at the beginning or at the end."""
    if _counted(clip.actors):
        word = clip.actors[0].item.word
        return any(count_is_held_out(word, len(clip.scene(number).items)) for number in (0, LENGTH - 1))
    events = [(actor.item.word, actor.detail if actor.event == "moves" else actor.event) for actor in clip.actors]
    return any(event_is_held_out(word, event) for word, event in events if event != "stays")


def _counted(actors: Sequence[Actor]) -> bool:
    """Whether there are several of one name, to be counted."""
    return len({actor.item.word for actor in actors}) == 1 < len(actors)


def _endless(kinds: Sequence[str], test: bool, rng: random.Random) -> Iterator[Clip]:
    while True:
        kind, composed = rng.choice(kinds), None if test else rng.getrandbits(32)
        while True:
            plan = rng if composed is None else random.Random(composed)  # as for pictures: number and arrangement stay, which things they are is drawn again
            actors = KINDS[kind](Palette(words.SEEN, "openmoji", shapes=True), plan, rng)
            shown = [item for actor in actors for item in (actor.item, actor.in_frame(LENGTH - 1)) if item]
            clip = Clip(kind, actors, draw_ground(shown, rng), rng.getrandbits(32))
            if holds_out(clip) if test else not (holds_out(clip) or _shows_held_out(clip)):
                break
        yield clip


def _shows_held_out(clip: Clip) -> bool:
    scenes = (clip.scene(number) for number in range(LENGTH))
    return any(held_out(scene) for scene in scenes if scene.items)


def _move(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Actor, ...]:
    """One thing moves, and perhaps another one moves along beside it or stays."""
    things, across = palette.draw(plan.choice((1, 2)), plan, rng, 0.3), plan.random() < 0.5
    lanes = [rng.uniform(0.3, 0.7)] if len(things) == 1 else rng.sample((0.26, 0.74), 2)
    actors = []
    for number, (thing, lane) in enumerate(zip(things, lanes, strict=True)):
        forth, far = rng.random() < 0.5, rng.uniform(0.42, 0.56)
        stays = number > 0 and plan.random() < 0.5
        start = rng.uniform(0.25, 0.75) if stays else rng.uniform(0.2, 0.8 - far)
        start = start if forth or stays else 1 - start
        item = put(thing, *((start, lane) if across else (lane, start)), rng.uniform(0.24, 0.36), rng)
        direction = ("right" if forth else "left") if across else ("down" if forth else "up")
        actors.append(Actor(item, "stays") if stays else Actor(item, "moves", direction, distance=round(far, 3)))
    return tuple(actors)


def _change(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Actor, ...]:
    """Something happens to one thing of one or two; or to two, one after the other; or things become more or fewer."""
    return plan.choice((_one_event, _two_events, _more_or_fewer))(palette, plan, rng)


def _one_event(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Actor, ...]:
    items = _places(palette.draw(plan.choice((1, 2)), plan, rng, 0.5), rng, (0.26, 0.4))
    event = plan.choice(("appears", "vanishes", "turns", "turns"))
    return (_befalls(items[0], event, rng.randint(FIRST, LAST), palette, rng), *(Actor(item, "stays") for item in items[1:]))


def _two_events(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Actor, ...]:
    items = _places(palette.draw(2, plan, rng, 0.3), rng, (0.26, 0.36))
    event, first = plan.choice(("appears", "vanishes")), rng.randint(FIRST, LAST - 2)
    frames = (first, rng.randint(first + 2, LAST))
    return tuple(Actor(item, event, at=at) for item, at in zip(items, rng.sample(frames, 2), strict=True))


def _more_or_fewer(palette: Palette, plan: random.Random, rng: random.Random) -> tuple[Actor, ...]:
    (thing,) = palette.draw(1, plan, rng, 0.3)
    few, many = sorted(plan.sample(range(1, MOST + 1), 2))
    items = _places([thing] * many, rng, (0.2, 0.27))
    event = plan.choice(("appears", "vanishes"))
    events = [Actor(item, event, at=rng.randint(FIRST, LAST)) for item in items[few:]]
    return tuple(rng.sample([Actor(item, "stays") for item in items[:few]] + events, many))


def _befalls(item: Item, event: str, at: int, palette: Palette, rng: random.Random) -> Actor:
    if event != "turns":
        return Actor(item, event, at=at)
    others = words.COLOURS if item.kind == "shape" else palette.names
    return Actor(item, event, rng.choice([other for other in others if other not in (item.colour, item.word)]), at)


def _places(things: Sequence[tuple[str, str, str]], rng: random.Random, extents: tuple[float, float]) -> list[Item]:
    """Each thing in a place of its own; two of them far from each other."""
    places = list(words.PLACES.values())
    if len(things) == 2:
        places = [places[number] for number in rng.choice(((0, 8), (2, 6), (3, 5), (1, 7)))]
    return [put(thing, *place, rng.uniform(*extents), rng) for thing, place in zip(things, rng.sample(places, len(things)), strict=True)]


KINDS: dict[str, Callable[[Palette, random.Random, random.Random], tuple[Actor, ...]]] = {"video_direction": _move, "video_change": _change}
"""By the skill that a clip is composed for."""


def _told(actor: Actor) -> str:
    if actor.event == "stays":
        return f"The {described(actor.item)} stays."
    return f"The {described(actor.item)} {actor.event}{_how(actor)}."


def _how(actor: Actor) -> str:
    if actor.event == "turns" and actor.item.kind == "drawing":
        return f" into {words.a(actor.detail)}"
    return f" {actor.detail}" if actor.detail else ""


def _directions(actors: Sequence[Actor], rng: random.Random) -> Iterator[Question]:
    movers = [actor for actor in actors if actor.event == "moves"]
    for actor in movers:
        yield moved(actor.item.word, actor.detail, phrase("way", rng, one=actor.item.word))
    if len(movers) < len(actors) or len({actor.detail for actor in movers}) == 2:
        chosen = rng.choice(movers)
        word, way = chosen.item.word, chosen.detail if len(movers) == 2 else ""
        accepted = {(*before, word) for before in ((), ("moves",), ("moves", way), (way,))} | {(word, "moves"), (word, "moves", way)}
        text = phrase("mover", rng, way=f" {way}" if way else "")
        answer = f"What moves{' ' + way if way else ''} is the {word}."
        yield Question("video_direction", text, answer, _tidy(accepted), 1 / len(actors))


def _events(actors: Sequence[Actor], rng: random.Random) -> Iterator[Question]:
    """What happens to what is alone of its name."""
    number = Counter(actor.item.word for actor in actors)
    for actor in actors:
        word, event, detail = actor.item.word, actor.event, actor.detail
        if number[word] > 1 or event == "stays":
            continue
        accepted = {(*start, event, detail) for start in ((), (word,), (*described(actor.item).split(),))}
        chance = 1 / 3 if event != "turns" else 1 / 3 / (len(words.COLOURS) - 1 if detail in words.COLOURS else len(words.DRAWINGS) - 1)
        text = phrase("event", rng, one=word)
        yield Question("video_change", text, f"The {word} {event}{_how(actor)}.", _tidy(accepted), chance)
        if event == "turns" and detail in words.COLOURS:
            yield from ended(word, (actor.item.colour, detail), rng)


def _order(actors: Sequence[Actor], rng: random.Random) -> Iterator[Question]:
    """Which of two comes first or last."""
    if len(actors) == 2 and actors[0].event == actors[1].event != "stays":
        early, late = sorted(actors, key=lambda actor: actor.at)
        event = early.event
        for when, actor in (("first", early), ("last", late)):
            this, that = rng.sample([actor.item.word for actor in actors], 2)
            text = phrase("order", rng, event=event, when=when, one=this, other=that)
            word = actor.item.word
            accepted = {(word,), (word, event), (word, event, when), (word, when), (when, event, word), (when, word),
                        (when, word, event), (event, when, word)}  # fmt: skip
            yield Question("video_change", text, f"What {event} {when} is the {word}.", _tidy(accepted), 1 / 2)


def _numbers(actors: Sequence[Actor], rng: random.Random) -> Iterator[Question]:
    """How many there are at the beginning and at the end, where that differs."""
    if _counted(actors):
        word = actors[0].item.word
        for when, number in (("beginning", 0), ("end", LENGTH - 1)):
            count = sum(actor.in_frame(number) is not None for actor in actors)
            say = words.COUNTS[count - 1]
            accepted = {order for named in (say, str(count)) for order in itertools.chain(itertools.permutations((word, named)), [(named,)])}
            text = phrase("number at", rng, many=words.plural(word), when=when)
            yield Question("video_change", text, f"At the {when} the number of {words.plural(word)} is {say}.", _tidy(accepted), 1 / MOST)


def _tidy(accepted: Any) -> tuple[tuple[str, ...], ...]:
    """Sorted, without empty words."""
    return tuple(sorted({tuple(word for word in one if word) for one in accepted}))
