"""Facts: the few about animals that the model is to know by heart, and those about countries that it has to look up."""

from __future__ import annotations

import random

from lifecycle.world.holdout import bucket
from lifecycle.world.vocabulary import ANIMALS, COUNTRIES


def facts() -> list[tuple[str, str, str]]:
    """(question, answer sentence, the word that makes it right) for every fact to be known by heart."""
    rows = []
    for animal, (sound, food, home) in ANIMALS.items():
        rows += [
            (f"What does a {animal} say?", f"A {animal} says {sound}.", sound),
            (f"What does a {animal} eat?", f"A {animal} eats {food}.", food),
            (f"Where does a {animal} live?", f"A {animal} lives in a {home}.", home),
        ]
    return rows


# (phrasings, query, what is found): two facts about each country.
ASPECTS = (
    (
        ("What is the capital of {country}?", "Which city is the capital of {country}?", "Please name the capital of {country}."),
        "capital of {country}",
        "{found} is the capital of {country}.",
    ),
    (
        ("Which language is spoken in {country}?", "What do people in {country} speak?", "Please name the language of {country}."),
        "language of {country}",
        "{found} is the language of {country}.",
    ),
)


def draw_search(rng: random.Random, *, held_out: bool = False) -> tuple[str, str, str, str]:
    """(question, query, what the search finds, answer); one in five (country, phrasing) combinations is held out."""
    while True:
        country, aspect = rng.choice(sorted(COUNTRIES)), rng.randrange(len(ASPECTS))
        phrasings, query, sentence = ASPECTS[aspect]
        phrasing = rng.choice(phrasings)
        if (bucket("search", country, phrasing, of=5) == 0) == held_out:
            found = COUNTRIES[country][aspect]
            return phrasing.format(country=country), query.format(country=country), found, sentence.format(country=country, found=found)
