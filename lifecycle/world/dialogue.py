"""Talks of several turns: somebody tells what is so, asks, corrects themselves, and asks again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from lifecycle.world.holdout import owner_is_held_out
from lifecycle.world.questions import say
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS

TOLD = ("I see.", "All right.", "I will remember that.")
CORRECTED = ("No, {fact}", "Sorry, {fact}", "That was wrong: {fact}")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Turns (user, assistant), of which the last one is a question: `key` is the right word, `rivals` are its wrong ones."""

    turns: tuple[tuple[str, str], ...]
    key: str
    rivals: tuple[str, ...]


def draw_dialogue(rng: random.Random, *, held_out: bool = False) -> Dialogue:
    """Who has something, or where somebody is: told, perhaps asked, corrected in half of the cases, and asked in the end."""
    about_thing = rng.random() < 0.5
    person, thing = _owner(rng, held_out)
    values = [person, _owner(rng, held_out, thing)[0]] if about_thing else rng.sample(PLACES, 2)
    fact = (lambda value: f"I gave the {thing} to {value}.") if about_thing else (lambda value: f"I saw {person} in the {value}.")
    kind, words = ("who has", {"thing": thing}) if about_thing else ("where person", {"person": person})
    answer = lambda value: say(kind, value, words)  # noqa: E731
    question = f"Who has the {thing}?" if about_thing else f"Where is {person}?"
    turns = [(fact(values[0]), rng.choice(TOLD))]
    if rng.random() < 0.5:
        turns.append((question, answer(values[0])))
    if rng.random() < 0.5:  # something else comes in between
        other = rng.choice([name for name in PEOPLE if name not in (person, *values)])
        turns.append((f"I saw {other} in the {rng.choice([place for place in PLACES if place not in values])}.", rng.choice(TOLD)))
    final = values[0]
    if rng.random() < 0.6:
        final = values[1]
        turns.append((rng.choice(CORRECTED).format(fact=fact(final)), rng.choice(TOLD)))
    turns.append((question, answer(final)))
    rivals = PEOPLE if about_thing else PLACES
    return Dialogue(tuple(turns), final, tuple(word for word in rivals if word != final))


def _owner(rng: random.Random, held_out: bool, thing: str | None = None) -> tuple[str, str]:
    """A person and a thing from training's share of owners, or from the held-out one."""
    while True:
        person, owned = rng.choice(PEOPLE), thing or rng.choice(THINGS)
        if owner_is_held_out(person, owned) == held_out:
            return person, owned
