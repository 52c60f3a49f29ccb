"""Questions about a story, each with a sentence for an answer and the one word that makes it right."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import phrasing_is_held_out
from lifecycle.world.state import World
from lifecycle.world.stories import Story
from lifecycle.world.vocabulary import COLOURS, FEELINGS, PEOPLE, PLACES, PRONOUN, THINGS

DONT_KNOW = "I don't know."

CORES: dict[str, tuple[str, ...]] = {
    "who has": ("who has the {thing}?", "who holds the {thing} now?"),
    "where person": ("where is {person}?", "where is {person} now?"),
    "where thing": ("where is the {thing}?", "in which place is the {thing}?"),
    "colour": ("what colour is the {thing}?", "which colour does the {thing} have?"),
    "why": ("why did {person} go to the {place}?", "why was {person} going to the {place}?"),
    "what has": ("what does {person} have?", "what does {person} hold now?"),
}
LEADS = ("", "Tell me, ", "Please say, ", "Do you know, ")


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
    world = story.world
    found: list[Question] = []

    def add(kind: str, answer: str, key: str, rivals: tuple[str, ...], **words: str) -> None:
        others = tuple(rival for rival in rivals if rival != key and rival not in words.values())
        found.append(Question(kind, _phrase(kind, words, rng, held_out), answer, key, others))

    for thing, holder in world.holder_of.items():
        who, place = holder or "Nobody", world.where(thing)
        add("who has", f"{who} has the {thing}.", who, (*PEOPLE, "Nobody"), thing=thing)
        add("where thing", f"The {thing} is in the {place}.", place, PLACES, thing=thing)
        add("colour", f"The {thing} is {world.colour_of[thing]}.", world.colour_of[thing], COLOURS, thing=thing)
    for person, place in world.place_of.items():
        add("where person", f"{person} is in the {place}.", place, PLACES, person=person)
        things = world.things_of(person)
        if len(things) == 1:
            add("what has", f"{person} has the {things[0]}.", things[0], (*THINGS, "nothing"), person=person)
        elif not things:
            add("what has", f"{person} has nothing.", "nothing", (*THINGS,), person=person)
    for (person, place), feeling in world.reasons.items():
        add("why", f"Because {PRONOUN[person]} was {feeling}.", feeling, FEELINGS, person=person, place=place)
    rng.shuffle(found)
    return found


def statements(world: World) -> list[str]:
    """How the world stands, one sentence a fact, always in the same order: what a reader should be able to say."""
    facts = []
    for person, place in world.place_of.items():
        facts.append(f"{person} is in the {place}.")
        facts += [f"{person} has the {thing}." for thing in world.things_of(person)] or [f"{person} has nothing."]
    for thing in world.holder_of:
        facts.append(f"The {thing} is {world.colour_of[thing]}.")
        facts.append(f"The {thing} is in the {world.where(thing)}.")
    return facts


def ask_unanswerable(story: Story, rng: random.Random, *, held_out: bool = False) -> Question:
    """A question about a person or a thing that the story never mentions."""
    kind = rng.choice(("who has", "where person", "where thing", "colour", "what has"))
    words = {
        "thing": rng.choice([thing for thing in THINGS if thing not in story.world.holder_of]),
        "person": rng.choice([person for person in PEOPLE if person not in story.world.place_of]),
    }
    return Question(kind, _phrase(kind, words, rng, held_out), DONT_KNOW, "know", ())


def _phrase(kind: str, words: dict[str, str], rng: random.Random, held_out: bool) -> str:
    """A phrasing from training's share, or (for evaluation) from the held-out share where there is one."""
    every = [(lead, core) for lead in LEADS for core in CORES[kind]]
    share = [(lead, core) for lead, core in every if phrasing_is_held_out(kind, lead, core) == held_out] or every
    lead, core = rng.choice(share)
    text = lead + core.format(**words)
    return text[0].upper() + text[1:]
