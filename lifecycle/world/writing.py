"""Requests to write: a story about given people, one in which given words occur, one that ends in a given way."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import owner_is_held_out, pair_is_held_out
from lifecycle.world.stories import Plan, Story, write_story
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS

BEGINNINGS = ("Tell me", "Write", "Please tell me", "Please write")
ABOUT = ("a story about {people}.", "a story with {people}.", "a short story about {people}.")
WITH = (
    "a story with {people}, a {thing} and the {place}.",
    "a story about {people} with a {thing} in the {place}.",
    "a story with these words: {people}, {thing}, {place}.",
)
ENDING_IN = ("a story about {people} that ends with {first} in the {place}.", "a story with {people}. In the end {first} is in the {place}.")
ENDING_WITH = ("a story about {people} that ends with the {thing} in the hands of {first}.", "a story with {people}. In the end {first} has the {thing}.")


@dataclass(frozen=True, slots=True)
class Assignment:
    """A request for a story, and what has to be in it."""

    request: str
    plan: Plan

    @property
    def words(self) -> tuple[str, ...]:
        """What has to occur, the ending's words among them."""
        plan = self.plan
        return (*plan.people, *dict.fromkeys(word for word in (plan.thing, plan.place, plan.ends_in, plan.ends_with) if word))

    @property
    def ending(self) -> dict[str, str]:
        """How it has to end, as a story's check holds it: who, and in which place or with which thing."""
        plan = self.plan
        end = {"place": plan.ends_in, "thing": plan.ends_with}
        told = {name: word for name, word in end.items() if word}
        return {"person": plan.people[0], **told} if told else {}

    def fulfil(self, rng: random.Random, longest: int) -> Story:
        """A consistent story that does what was asked."""
        return write_story(rng, rng.randint(min(4, longest), longest), self.plan)


def assign(rng: random.Random, *, constrained: bool, held_out: bool = False) -> Assignment:
    """A writing task about two people, or with `constrained` about one or two with a thing and a place, or with an ending.

    Held out are pairs of people and, where a thing is asked for, things that training never gives to the first of them.
    """
    kind = rng.choices(("words", "place", "thing"), (0.6, 0.2, 0.2))[0] if constrained else "people"
    while True:
        first, second = rng.sample(PEOPLE, 2)
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        pair = pair_is_held_out(first, second)
        owner = kind in ("words", "thing") and owner_is_held_out(first, thing)
        if (owner if kind in ("words", "thing") else pair) if held_out else not (pair or owner):
            break
    people = (first,) if kind in ("words", "thing") and rng.random() < 0.5 else (first, second)
    wishes, plan = {
        "people": (ABOUT, Plan(people)),
        "words": (WITH, Plan(people, thing=thing, place=place)),
        "place": (ENDING_IN, Plan(people, ends_in=place)),
        "thing": (ENDING_WITH, Plan(people, ends_with=thing)),
    }[kind]
    wish = rng.choice(wishes).format(people=" and ".join(people), first=first, thing=thing, place=place)
    return Assignment(f"{rng.choice(BEGINNINGS)} {wish}", plan)
