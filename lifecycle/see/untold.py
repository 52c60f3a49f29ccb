"""Answers that training never gives, because they would tell what is held out.

Somebody who is never shown a red star learns more than they should: that stars are not red. A language model learns this first, from
the words alone, long before it looks. So what is held out is not counted as wrong either: where an answer could go on to tell it, that
way on is left out of the choice (as in logit adjustment, arXiv 2007.07314, for a class that was never drawn).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lifecycle.world.sights import thoughts, words
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


def said(answer: str, thought: str) -> str:
    """What an assistant says in all: what it thinks, if anything, and its answer."""
    return f"<think>{thought}</think>{answer}" if thought else answer


def untold(shown: Scene | Clip, answer: str, thought: str = "") -> list[str]:
    """All that could be said in place of `said(answer, thought)` and would tell a combination which is held out."""
    return [*_unthought(answer, thought), *(said(other, thought) for other in _unanswered(shown, answer))]


def _unthought(answer: str, thought: str) -> Iterator[str]:
    """Thoughts that put what is counted where it never is, or stop at a number that there never is of it; or that find two things together
    that never are."""
    steps = re.split(rf" (?={'|'.join(words.COUNTS)}\b)", thought)
    (word, *_) = said_in(answer)
    if thought.startswith(words.COUNTS[0]):
        for number, step in enumerate(steps):
            before = "".join(f"{one} " for one in steps[:number])
            if number and count_is_held_out(word, number):
                yield f"<think>{before.strip()}</think>"
            for place in words.PLACES:
                if place_is_held_out(word, place) and not step.endswith(f"{words.COUNTS[number]} {place}"):
                    so_far = f"<think>{before}{words.COUNTS[number]} {place}"
                    yield f"{so_far}</think>"
                    yield from (f"{so_far} {count}" for count in words.COUNTS[number + 1 : number + 2])
    elif thought.startswith(tuple(thoughts.THIRDS)):
        names = [one for one in thought.split() if one in NAMES]
        for number, name in enumerate(names):
            before = thought.split(f" {name} ")[0]
            for other in NAMES:
                if other not in names and any(couple_is_held_out(other, one) for one in names[:number]):
                    yield f"<think>{before} {other}"


def _unanswered(shown: Scene | Clip, answer: str) -> list[str]:
    """Answers of the same form."""
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
