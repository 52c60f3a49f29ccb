"""The few facts that hold in every story: animals, what they say, eat and where they live."""

from __future__ import annotations

from lifecycle.world.vocabulary import ANIMALS


def facts() -> list[tuple[str, str, str]]:
    """(question, answer sentence, the word that makes it right) for every fact."""
    rows = []
    for animal, (sound, food, home) in ANIMALS.items():
        rows += [
            (f"What does a {animal} say?", f"A {animal} says {sound}.", sound),
            (f"What does a {animal} eat?", f"A {animal} eats {food}.", food),
            (f"Where does a {animal} live?", f"A {animal} lives in a {home}.", home),
        ]
    return rows
