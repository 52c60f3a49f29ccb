"""Answers that training never gives, because they would tell what is held out.

Somebody who is never shown a red star learns more than they should: that stars are not red. A language model learns this first, from
the words alone, long before it looks. So what is held out is not counted as wrong either: where an answer could go on to tell it, and to tell
nothing else, that way on is left out of the choice (as in logit adjustment, arXiv 2007.07314, for a class that was never drawn).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

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
from lifecycle.world.sights.questions import OPENINGS, said_in
from lifecycle.world.sights.scene import Scene

NAMES = (*words.SEEN, *words.SHAPES)
SHOWN = tuple(opening.split("{")[0] for opening in OPENINGS)
"""How answers begin that say what there is."""
HAPPENS = ("appears", "vanishes", "turns")

Other = tuple[str, bool]
"""What could be said in place of something, and whether it tells what is held out."""


def said(answer: str, thought: str) -> str:
    """What an assistant says in all: what it thinks, if anything, and its answer."""
    return f"<think>{thought}</think>{answer}" if thought else answer


def others(shown: Scene | Clip, answer: str, thought: str = "") -> list[Other]:
    """What could be said in place of `said(answer, thought)` with one word or place in it changed.

    Of names only those that tell what is held out, behind the same article: no other name is the same token.
    """
    return [*_other_thoughts(shown, answer, thought), *((said(other, thought), never) for other, never in _other_answers(shown, answer))]


def untold(shown: Scene | Clip, answer: str, thought: str = "") -> list[str]:
    """Those of `others` that tell a combination which is held out."""
    return [other for other, never in others(shown, answer, thought) if never]


def _other_thoughts(shown: Scene | Clip, answer: str, thought: str) -> Iterator[Other]:
    """Another place of what is counted, or another number; another name among several things."""
    if thought.startswith(words.COUNTS[0]):
        yield from _other_counts(said_in(answer), thought)
    elif thought.startswith(tuple(thoughts.THIRDS)):
        along, *rest = thought.split()
        names = rest[::2]
        for number, name in enumerate(names):
            before = " ".join([along, *rest[: 2 * number]])
            yield from ((f"<think>{before} {other}", True) for other in _never_named(shown, name, names, names[:number]))


def _other_counts(facts: Sequence[str], thought: str) -> Iterator[Other]:
    word = next(fact for fact in facts if fact in NAMES)
    steps = re.split(rf" (?={'|'.join(words.COUNTS)}\b)", thought)
    for number, step in enumerate(steps):
        before = "".join(f"{one} " for one in steps[:number])
        if number:
            yield f"<think>{before.strip()}</think>", count_is_held_out(word, number)
        for place in words.PLACES:
            if step != f"{words.COUNTS[number]} {place}":
                so_far = f"<think>{before}{words.COUNTS[number]} {place}"
                for way_on in ("</think>", *(f" {count}" for count in words.COUNTS[number + 1 : number + 2])):
                    yield so_far + way_on, place_is_held_out(word, place)
    for more in words.COUNTS[len(steps) : len(steps) + 1]:
        yield f"<think>{thought} {more}", all(count_is_held_out(word, count) for count in range(len(steps) + 1, len(words.COUNTS) + 1))


def _other_answers(shown: Scene | Clip, answer: str) -> Iterator[Other]:
    if isinstance(shown, Scene) and shown.items[0].kind == "writing":
        written = shown.items[0].word
        if not written.isdigit():
            yield from ((answer.replace(written, other), writing_is_held_out(other)) for other in words.WRITTEN if other != written)
        return
    named = [word for word in said_in(answer) if word in NAMES]
    if not named:
        return
    if answer.startswith(SHOWN):
        for name in named:
            yield from ((other, True) for other in _with_names(answer, name, _never_named(shown, name, named, named, _colour_before(answer, name))))
            if colour := _colour_before(answer, name):
                for other in words.COLOURS:
                    if other != colour and words.a(other)[:2] == words.a(colour)[:2]:
                        yield answer.replace(f" {colour} {name}", f" {other} {name}", 1), colour_is_held_out(name, other)
        if len(named) == 1:
            yield from _ends(answer, named[0], moving=False)
        return
    yield from _happens(answer, named[0])
    if answer.endswith(f" {named[-1]}."):
        colour = answer.split(" ", 1)[0].lower()
        yield from ((other, True) for other in _with_names(answer, named[-1], _never_named(shown, named[-1], named, named, colour, said_in(answer))))
    else:
        yield from _ends(answer, named[0], moving=isinstance(shown, Clip))


def _never_named(
    shown: Scene | Clip, name: str, named: Sequence[str], beside: Iterable[str], colour: str = "", facts: Sequence[str] = ()
) -> Iterator[str]:
    """Names that never stand in place of `name`: beside those that are named, where it is, in its colour, or because it never happens to them."""
    beside = [word for word in beside if word != name]
    places = [item.place for item in shown.items if item.word == name] if isinstance(shown, Scene) else []
    events = [fact for fact in facts if fact in words.EVENTS] if isinstance(shown, Clip) else []
    for other in NAMES:
        if other not in named and (
            any(couple_is_held_out(other, word) for word in beside)
            or (colour in words.COLOURS and other in words.SHAPES and colour_is_held_out(other, colour))
            or any(place and place_is_held_out(other, place) for place in places)
            or any(event_is_held_out(other, event) for event in events)
        ):
            yield other


def _colour_before(answer: str, name: str) -> str:
    """The colour that a name is told with."""
    before = re.search(rf"(\w+) {name}\b", answer)
    return before[1] if before and before[1] in words.COLOURS else ""


def _with_names(answer: str, name: str, instead: Iterable[str]) -> Iterator[str]:
    """The answer with another name, where it takes the same article."""
    found = re.search(rf"\b(an? )?{name}\b", answer)
    for other in instead if found else ():  # of several things a caption tells the plural
        if found[1] is None or words.a(other).startswith(found[1]):
            yield f"{answer[: found.end() - len(name)]}{other}{answer[found.end() :]}"


def _ends(answer: str, word: str, moving: bool) -> Iterator[Other]:
    """The answer with another end: place, colour, number or event."""
    ends: tuple[tuple[dict, Callable], ...] = (
        ({words.at(place): place for place in words.PLACES}, place_is_held_out),
        ({colour: colour for colour in words.COLOURS}, lambda one, colour: one in words.SHAPES and colour_is_held_out(one, colour)),
        ({count: number for number, count in enumerate(words.COUNTS, start=1)}, count_is_held_out),
        ({f"moves {event}" if number < 4 else event: event for number, event in enumerate(words.EVENTS)}, event_is_held_out),
    )
    for values, held_out in ends:
        for end in values:
            if answer.endswith(f" {end}.") and (moving or not end.startswith("moves")):
                start = answer.removesuffix(f"{end}.")
                yield from ((f"{start}{other}.", held_out(word, value)) for other, value in values.items() if other != end)
                return


def _happens(answer: str, word: str) -> Iterator[Other]:
    """Something else that happens to it, where it turns into something."""
    if answer.startswith(f"The {word} turns "):
        yield from ((f"The {word} {event}.", event_is_held_out(word, event)) for event in HAPPENS if event != "turns")


def ways_on(said: list[int], others: list[list[int]]) -> list[tuple[int, int]]:
    """Where each of `others`, token ids, first goes another way than `said`: the place and the token that would be there."""
    found = set()
    for other in others:
        place = next((n for n, (one, two) in enumerate(zip(said, other, strict=False)) if one != two), None)
        if place is not None:
            found.add((place, other[place]))
    return sorted(found)
