"""Answers that training never gives, because they would tell what is held out.

Somebody who is never shown a red star learns more than they should: that stars are not red. A language model learns this first, from
the words alone, long before it looks. So what is held out is not counted as wrong either: where an answer could go on to tell it, that
way on is left out of the choice (as in logit adjustment, arXiv 2007.07314, for a class that was never drawn). A way on that leads to
something else as well, as "top" does to "top left" and to "top right", stays in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from lifecycle.world.sights import words
from lifecycle.world.sights.clips import Clip
from lifecycle.world.sights.holdout import (
    colour_is_held_out,
    count_is_held_out,
    couple_is_held_out,
    event_is_held_out,
    place_is_held_out,
    writing_is_held_out,
)
from lifecycle.world.sights.questions import said_in
from lifecycle.world.sights.scene import Scene

NAMES = (*words.SEEN, *words.SHAPES)
Told = tuple[str, bool]
"""An answer, and whether what it tells is held out."""
_NAMED = re.compile(rf"\b(an?|the) (?:({'|'.join(words.COLOURS)}) )?({'|'.join(NAMES)})\b")
_WORDS = re.compile(r"\w+|\.")
_MOVES, _HAPPENS = words.EVENTS[:4], words.EVENTS[4:]
"""Directions, and what else can befall a thing: no question could be answered with one as well as with the other."""


def untold(shown: Scene | Clip, answer: str) -> list[str]:
    """Answers of the same form that tell a combination which is held out, and that no answer begins like which may be given."""
    pieces = list if _is_read(shown) else _WORDS.findall  # what is read is written sign by sign
    found = list(dict.fromkeys(_otherwise(shown, answer)))
    told = {_parting(pieces(answer), pieces(other)) for other, held_out in found if not held_out}
    return [other for other, held_out in found if held_out and _parting(pieces(answer), pieces(other)) not in told]


def _is_read(shown: Scene | Clip) -> bool:
    return isinstance(shown, Scene) and shown.items[0].kind == "writing"


def _parting(answer: Sequence[str], other: Sequence[str]) -> tuple[int, str]:
    """Where the other answer goes another way, and its piece there."""
    pairs = enumerate(zip(answer, other, strict=False))
    return next(((place, two) for place, (one, two) in pairs if one != two), (len(other), ""))


def _otherwise(shown: Scene | Clip, answer: str) -> Iterator[Told]:
    """The answer with one fact in it told otherwise, and whether that is held out."""
    if _is_read(shown):
        written = shown.items[0].word
        others = words.WRITTEN if not written.isdigit() else ()
        yield from ((answer.replace(written, other), writing_is_held_out(other)) for other in others if other != written)
        return
    named = [word for word in said_in(answer) if word in NAMES]
    if not named:
        return
    for found in _NAMED.finditer(answer):
        article, colour, name = found.groups()
        start, end = answer[: found.start()], answer[found.end() :]
        if colour and name in words.SHAPES:
            yield from ((f"{start}{article} {other} {name}{end}", colour_is_held_out(name, other)) for other in words.COLOURS if other != colour)
        if article != "the" or end == ".":
            first = answer.split(" ", 1)[0].lower()
            for other, held_out in _names(shown, name, colour or (first if first in words.COLOURS else ""), named):
                said = f"{colour} {other}" if colour else other
                yield f"{start}{f'the {said}' if article == 'the' else words.a(said)}{end}", held_out
    yield from _ends(answer, named[0])
    if " turns " in answer:
        start = answer[: answer.index(" turns ")]
        yield from ((f"{start} {event}.", event_is_held_out(named[0], event)) for event in _HAPPENS if event != "turns")


def _names(shown: Scene | Clip, name: str, colour: str, named: list[str]) -> Iterator[Told]:
    """Names that could stand in place of this one."""
    beside = [word for word in named if word != name]
    places = [item.place for item in shown.items if item.word == name] if isinstance(shown, Scene) else []
    for other in words.SHAPES if colour else NAMES:  # drawings are of no colour
        if other not in named:
            held_out = any(couple_is_held_out(other, one) for one in beside) or any(place and place_is_held_out(other, place) for place in places)
            yield other, held_out or bool(colour and colour_is_held_out(other, colour))


def _ends(answer: str, word: str) -> Iterator[Told]:
    """The answer with another end: place, colour, number or event."""
    ends: tuple[tuple[dict[str, object], Callable[[str, object], bool]], ...] = (
        ({words.at(place): place for place in words.PLACES}, place_is_held_out),
        ({colour: colour for colour in words.COLOURS}, lambda one, colour: one in words.SHAPES and colour_is_held_out(one, colour)),
        ({count: number for number, count in enumerate(words.COUNTS, start=1)}, count_is_held_out),
        ({f"moves {event}": event for event in _MOVES}, event_is_held_out),
        ({event: event for event in _HAPPENS}, event_is_held_out),
    )
    for values, held_out in ends:
        for said in values:
            if answer.endswith(f" {said}."):
                start = answer.removesuffix(f"{said}.")
                yield from ((f"{start}{other}.", held_out(word, value)) for other, value in values.items() if other != said)
                return


def ways_on(said: list[int], others: list[list[int]]) -> list[tuple[int, int]]:
    """Where each of `others`, token ids, first goes another way than `said`: the place and the token that would be there."""
    found = set()
    for other in others:
        place = next((n for n, (one, two) in enumerate(zip(said, other, strict=False)) if one != two), None)
        if place is not None:
            found.add((place, other[place]))
    return sorted(found)
