"""Requests to write: a story about given people, or one in which given words occur."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import owner_is_held_out, pair_is_held_out
from lifecycle.world.stories import Story, write_story
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS

BEGINNINGS = ("Tell me", "Write", "Please tell me", "Please write")
ABOUT = ("a story about {people}.", "a story with {people}.", "a short story about {people}.")
WITH = (
    "a story with {people}, a {thing} and the {place}.",
    "a story about {people} with a {thing} in the {place}.",
    "a story with these words: {people}, {thing}, {place}.",
)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A request for a story and the words that have to occur in it."""

    request: str
    people: tuple[str, ...]
    thing: str | None
    place: str | None

    @property
    def words(self) -> tuple[str, ...]:
        return (*self.people, *(word for word in (self.thing, self.place) if word))

    def fulfil(self, rng: random.Random, longest: int) -> Story:
        """A consistent story that does what was asked."""
        sentences = rng.randint(min(4, longest), longest)
        return write_story(rng, sentences, people=self.people, thing=self.thing, place=self.place)


def assign(rng: random.Random, *, constrained: bool, held_out: bool = False) -> Assignment:
    """A writing task about two people, or with `constrained` about one or two and a thing and a place.

    Held out are pairs of people and, when constrained, things that training never gives to the first of them.
    """
    while True:
        first, second = rng.sample(PEOPLE, 2)
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        owner, pair = owner_is_held_out(first, thing), pair_is_held_out(first, second)
        if (owner if constrained else pair) if held_out else not pair and not (constrained and owner):
            break
    people = (first,) if constrained and rng.random() < 0.5 else (first, second)
    wish = rng.choice(WITH if constrained else ABOUT).format(people=" and ".join(people), thing=thing, place=place)
    request = f"{rng.choice(BEGINNINGS)} {wish}"
    return Assignment(request, people, thing, place) if constrained else Assignment(request, people, None, None)
