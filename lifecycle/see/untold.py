"""Answers that training never gives, because they would tell what is held out.

Somebody who is never shown a red star learns more than they should: that stars are not red. A language model learns this first, from
the words alone, long before it looks. So what is held out is not counted as wrong either: where an answer could go on to tell it, that
way on is left out of the choice (as in logit adjustment, arXiv 2007.07314, for a class that was never drawn).
"""

from __future__ import annotations

from collections.abc import Iterator

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


def untold(shown: Scene | Clip, answer: str) -> list[str]:
    """Answers of the same form that tell a combination which is held out."""
    if isinstance(shown, Scene) and shown.items[0].kind == "writing":
        written = shown.items[0].word
        others = words.WRITTEN if not written.isdigit() else ()
        return [answer.replace(written, other) for other in others if writing_is_held_out(other)]
    last = answer.removesuffix(".").rsplit(" ", 1)[-1]
    named = [word for word in said_in(answer) if word in NAMES]
    if not named:
        return []
    if last in NAMES:
        return [_instead(answer, last, other) for other in _names(shown, answer, last, named)]
    return list(_ends(answer, named[0], isinstance(shown, Clip)))


def _names(shown: Scene | Clip, answer: str, last: str, named: list[str]) -> Iterator[str]:
    """Names that never stand in place of the last one."""
    beside = [word for word in named if word != last]
    colour = answer.split(" ", 1)[0].lower()
    places = [item.place for item in shown.items if item.word == last] if isinstance(shown, Scene) else []
    for name in NAMES:
        if name in named:
            continue
        if (
            any(couple_is_held_out(name, other) for other in beside)
            or (colour in words.COLOURS and name in words.SHAPES and colour_is_held_out(name, colour))
            or any(place and place_is_held_out(name, place) for place in places)
        ):
            yield name


def _ends(answer: str, word: str, moving: bool) -> Iterator[str]:
    """The answer with another end: place, colour, number or event."""
    for values, held_out in (
        ({words.at(place): place for place in words.PLACES}, place_is_held_out),
        ({colour: colour for colour in words.COLOURS}, lambda one, colour: one in words.SHAPES and colour_is_held_out(one, colour)),
        ({count: number for number, count in enumerate(words.COUNTS, start=1)}, count_is_held_out),
        ({f"moves {event}" if number < 4 else event: event for number, event in enumerate(words.EVENTS)}, event_is_held_out),
    ):
        for said in values:
            if answer.endswith(f" {said}.") and (moving or not said.startswith("moves")):
                start = answer.removesuffix(f"{said}.")
                yield from (f"{start}{other}." for other, value in values.items() if other != said and held_out(word, value))
                return


def _instead(answer: str, last: str, other: str) -> str:
    """With another name at the end, and the article that it takes."""
    start = answer.removesuffix(f"{last}.")
    for article in (" an ", " a "):
        if start.endswith(article):
            return f"{start.removesuffix(article)} {words.a(other)}."
    return f"{start}{other}."


def ways_on(said: list[int], others: list[list[int]]) -> list[tuple[int, int]]:
    """Where each of `others`, token ids, first goes another way than `said`: the place and the token that would be there."""
    found = set()
    for other in others:
        place = next((n for n, (one, two) in enumerate(zip(said, other, strict=False)) if one != two), None)
        if place is not None:
            found.add((place, other[place]))
    return sorted(found)
