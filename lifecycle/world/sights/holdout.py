"""Which combinations training never shows, decided by the text world's hash (`lifecycle/world/holdout.py`)."""

from __future__ import annotations

from lifecycle.world.holdout import bucket
from lifecycle.world.sights import questions, words
from lifecycle.world.sights.questions import Question


def place_is_held_out(word: str, place: str) -> bool:
    """Every drawing and every shape is never seen in one of the nine places."""
    return list(words.PLACES).index(place) == _lack("place", word, of=9)


def colour_is_held_out(shape: str, colour: str) -> bool:
    """Every shape is never seen in two of the eight colours, and every colour not on one or two of the shapes."""
    return list(words.COLOURS).index(colour) % 4 == words.SHAPES.index(shape) % 4


def count_is_held_out(word: str, count: int) -> bool:
    """Of every drawing and every shape one of the numbers from one to five is never seen, where there is something to count."""
    return count - 1 == _lack("count", word, of=5)


def couple_is_held_out(one: str, other: str) -> bool:
    """One in eight pairs of drawings or shapes: never together in a training picture."""
    return bucket("sight couple", *sorted((one, other)), of=8) == 0


def writing_is_held_out(text: str) -> bool:
    """One in five numbers and one in five words."""
    return bucket("sight writing", text, of=5) == 0


def event_is_held_out(word: str, event: str) -> bool:
    """To seven in eight of the drawings and to every shape one of `words.EVENTS` never happens."""
    return words.EVENTS.index(event) == _lack("event", word, of=8)


def _lack(topic: str, word: str, of: int) -> int:
    """Which of so many a drawing lacks, by the hash; for the few shapes in turn, so that answers are as even."""
    return words.SHAPES.index(word) % of if word in words.SHAPES else bucket(f"sight {topic}", word, of=of)


def question_is_held_out(question: Question) -> bool:
    """Whether a question about a still picture asks for a combination that is held out; what there is can always be asked."""
    said = questions.said_in(question.text), questions.said_in(question.answer)
    names = list(dict.fromkeys(word for facts in reversed(said) for word in facts if word in questions.NAMES))
    rest = [word for word in said[1] if word not in questions.NAMES]
    match question.skill:
        case "position":
            return place_is_held_out(names[0], " ".join(rest))
        case "colour":
            return colour_is_held_out(names[0], rest[0])
        case "count":
            return count_is_held_out(names[0], words.COUNTS.index(rest[0]) + 1)
        case "relation":
            return couple_is_held_out(*names)
        case "digits":
            return writing_is_held_out(said[1][0])
    return True
