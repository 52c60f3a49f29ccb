"""What is said aloud in the world: numbers, names, greetings and questions about animals, and what is answered to each."""

from __future__ import annotations

from dataclasses import dataclass

from lifecycle.world.knowledge import facts
from lifecycle.world.smalltalk import GREETINGS
from lifecycle.world.vocabulary import NUMBERS

NAMES = (
    "Adam", "Alma", "Anton", "Betty", "Boris", "Bruno", "Carla", "David", "Dora", "Edith", "Emma", "Felix", "Flora", "Frank",
    "George", "Greta", "Hugo", "Ida", "Jack", "Julia", "Kevin", "Laura", "Leo", "Marco", "Mary", "Nadia", "Oliver", "Oscar",
    "Peter", "Rosa", "Ruby", "Samuel", "Sofia", "Steve", "Susan", "Tom", "Vera", "Victor", "Walter", "Zoe",
)  # fmt: skip
"""People of the world whose names no two people would take for each other by ear."""
GREETED = ("Hello!", "How are you?", "Thank you.", "Goodbye!")


@dataclass(frozen=True, slots=True)
class Exchange:
    """Something said and its answer, both as they are written. The answer names the key."""

    kind: str
    """"digit", "name", "greeting" or "fact"."""
    said: str
    answer: str
    key: str


def exchanges() -> list[Exchange]:
    """All of them, always in the same order."""
    found = [Exchange("digit", word.capitalize() + ".", f"The number is {word}.", word) for word in NUMBERS]
    found += [Exchange("name", name + ".", f"Your name is {name}.", name) for name in NAMES]
    found += [Exchange("greeting", said, GREETINGS[said], GREETINGS[said]) for said in GREETED]
    return found + [Exchange("fact", question, answer, key) for question, answer, key in facts()]
