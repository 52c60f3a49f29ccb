"""Questions about a story, each with a short sentence for an answer and the one word that makes it right.

No answer begins with the word that is looked for: a byte-level tokenizer writes a word in the middle of a line and at its
beginning as two tokens that have nothing in common, and copying one as the other has to be learnt word by word.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lifecycle.world.holdout import phrasing_is_held_out
from lifecycle.world.state import World
from lifecycle.world.stories import Story
from lifecycle.world.vocabulary import COLOURS, FEELINGS, GOODS, NUMBERS, PEOPLE, PLACES, PRONOUN, THINGS

DONT_KNOW = "I don't know."

CORES: dict[str, tuple[str, ...]] = {
    "who has": ("who has the {thing}?", "who holds the {thing} now?"),
    "where person": ("where is {person}?", "where is {person} now?"),
    "where thing": ("where is the {thing}?", "in which place is the {thing}?"),
    "colour": ("what colour is the {thing}?", "which colour does the {thing} have?"),
    "why": ("why did {person} go to the {place}?", "for what reason did {person} go to the {place}?"),
    "what has": ("what does {person} have?", "what does {person} hold now?"),
    "who with": ("who is with {person}?", "who is in the same place as {person}?"),
    "how many": ("how many {goods} does {person} have?", "what number of {goods} does {person} have?"),
    "before place": ("where was {person} before?", "where did {person} come from?"),
    "before holder": ("who had the {thing} before?", "who held the {thing} before that?"),
    "before colour": ("what colour was the {thing} before?", "which colour did the {thing} have at first?"),
    "what if": (
        "who would have the {thing} if nobody had given it away?",
        "who would hold the {thing} had it never been given away?",
    ),
}
"""From the easiest kind of question to the hardest: what is, what a place or a number comes to, what was, what would be."""
LEADS = ("", "Tell me, ", "Please say, ", "Do you know, ", "Can you say, ")


@dataclass(frozen=True, slots=True)
class Question:
    """`key` is the word that a right answer names; `rivals` are the words of its class that it must not name."""

    kind: str
    text: str
    answer: str
    key: str
    rivals: tuple[str, ...]


def ask(story: Story, rng: random.Random, *, held_out: bool = False) -> list[Question]:
    """All questions that the story answers, in random order; two things in one hand are not asked for."""
    found = []
    for kind, answer, key, every, words in _answered(story):
        rivals = tuple(rival for rival in every if rival != key and rival not in words.values())
        found.append(Question(kind, _phrase(kind, words, rng, held_out), answer, key, rivals))
    rng.shuffle(found)
    return found


Answered = tuple[str, str, str, Sequence[str], dict[str, str]]  # kind, answer, key, the key's class, words of the question


def _answered(story: Story) -> Iterator[Answered]:
    yield from _about_things(story.world)
    yield from _about_people(story.world)
    hands = [event for event in story.events if event.kind in ("give", "drop", "take")]
    for event in hands:  # what if: only of what changed hands once
        if event.kind == "give" and sum(other.thing == event.thing for other in hands) == 1:
            yield "what if", f"It would be {event.who}.", event.who, PEOPLE, {"thing": event.thing}


def _about_things(world: World) -> Iterator[Answered]:
    for thing, holder in world.holder_of.items():
        who, place, words = holder or "nobody", world.where(thing), {"thing": thing}
        yield "who has", f"It is {who}.", who, (*PEOPLE, "nobody"), words
        # Where a thing is takes two steps, and the answer says both.
        held = f"With {holder} in the {place}." if holder else f"In the {place}."
        yield "where thing", held, place, PLACES, words
        yield "colour", f"It is {world.colour_of[thing]}.", world.colour_of[thing], COLOURS, words
        if thing in world.colour_before:
            was = world.colour_before[thing]
            yield "before colour", f"It was {was}.", was, COLOURS, words
        if thing in world.had_before and world.had_before[thing] is not None:
            yield "before holder", f"It was {world.had_before[thing]}.", world.had_before[thing], PEOPLE, words


def _about_people(world: World) -> Iterator[Answered]:
    for person, place in world.place_of.items():
        words = {"person": person}
        yield "where person", f"In the {place}.", place, PLACES, words
        if person in world.came_from:
            yield "before place", f"In the {world.came_from[person]}.", world.came_from[person], PLACES, words
        things = world.things_of(person)
        if len(things) == 1:
            yield "what has", f"It is the {things[0]}.", things[0], (*THINGS, "nothing"), words
        elif not things:
            yield "what has", "It is nothing.", "nothing", THINGS, words
        company = world.with_whom(person)
        if len(world.place_of) > 1 and len(company) < 2:
            who = company[0] if company else "nobody"
            yield "who with", f"It is {who}.", who, (*PEOPLE, "nobody"), words
    for (person, place), reason in world.reasons.items():
        words = {"person": person, "place": place}
        if reason in FEELINGS:
            yield "why", f"Because {PRONOUN[person]} was {reason}.", reason, FEELINGS, words
        else:
            yield "why", f"Because {PRONOUN[person]} wanted the {reason}.", reason, THINGS, words
    for (person, goods), number in world.number_of.items():
        words = {"person": person, "goods": goods}
        yield "how many", f"It is {NUMBERS[number]}.", NUMBERS[number], NUMBERS, words


def statements(world: World) -> list[str]:
    """How the world stands, one sentence a fact, always in the same order: what a reader should be able to say."""
    facts = []
    for person, place in world.place_of.items():
        facts.append(f"{person} is in the {place}.")
        facts += [f"{person} has the {thing}." for thing in world.things_of(person)] or [f"{person} has nothing."]
        facts += [f"{person} has {NUMBERS[number]} {goods}." for (who, goods), number in world.number_of.items() if who == person]
    for thing in world.holder_of:
        facts.append(f"The {thing} is {world.colour_of[thing]}.")
        facts.append(f"The {thing} is in the {world.where(thing)}.")
    return [f"Now {facts[0]}", *facts[1:]]


def ask_unanswerable(story: Story, rng: random.Random, *, held_out: bool = False) -> Question:
    """A question about a person, a thing or goods that the story never mentions."""
    kind = rng.choice(("who has", "where person", "where thing", "colour", "what has", "who with", "how many", "before place"))
    told = set(story.text.replace(".", " ").replace(",", " ").split())
    words = {
        name: rng.choice([word for word in every if word not in told])
        for name, every in (("thing", THINGS), ("person", PEOPLE), ("goods", GOODS))
    }
    if kind == "how many" and rng.random() < 0.5:  # somebody who is there, and goods that they do not have
        words["person"] = rng.choice(list(story.world.place_of))
    return Question(kind, _phrase(kind, words, rng, held_out), DONT_KNOW, "know", ())


def _phrase(kind: str, words: dict[str, str], rng: random.Random, held_out: bool) -> str:
    """A phrasing from training's share, or (for evaluation) from the held-out share where there is one."""
    every = [(lead, core) for lead in LEADS for core in CORES[kind]]
    share = [(lead, core) for lead, core in every if phrasing_is_held_out(kind, lead, core) == held_out] or every
    lead, core = rng.choice(share)
    text = lead + core.format(**words)
    return text[0].upper() + text[1:]
