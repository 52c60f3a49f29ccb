"""What is said and asked about a picture, and whether an answer is right.

Answers are short sentences in the manner of the text world: they repeat what was asked and most end with what was found ("The ball
is at the top left."). Nothing is asked that two answers would fit.
"""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lifecycle.world.sights import words
from lifecycle.world.sights.items import Item
from lifecycle.world.vocabulary import COLOURS, NUMBERS, PEOPLE, PLACES

SKILLS = ("object", "count", "colour", "position", "relation", "digits")
VIDEO_SKILLS = ("video_direction", "video_change")
APART = 0.25  # how far from each other two centres are that are said to be left and right of each other
LARGER = 1.45  # how many times the other's extent something has that is said to be larger

ASKED: dict[str, tuple[str, ...]] = {
    "object": ("What is in the picture?", "What does the picture show?", "What do you see?"),
    "objects": ("Which two things are in the picture?", "What does the picture show?", "What do you see?"),
    "count": ("How many {many} are in the picture?", "How many {many} do you see?", "What number of {many} is there?"),
    "colour": ("What colour is the {one}?", "Which colour does the {one} have?", "What is the colour of the {one}?"),
    "coloured": ("What is {found}?", "Which shape is {found}?"),
    "position": ("Where is the {one}?", "Where in the picture is the {one}?", "In which part of the picture is the {one}?"),
    "side": ("Is the {one} {this} or {that} the {other}?", "Tell me, is the {one} {this} or {that} the {other}?"),
    "beside": ("What is {this} the {other}?", "Which thing is {this} the {other}?"),
    "larger": ("Which is larger, the {one} or the {other}?", "What is larger, the {one} or the {other}?"),
    "number": ("Which number is written?", "What number is in the picture?", "What number do you read?"),
    "word": ("Which word is written?", "What word is in the picture?", "What word do you read?"),
    "way": ("Which way does the {one} move?", "In which direction does the {one} move?", "Where does the {one} move?"),
    "mover": ("What moves{way}?", "Which thing moves{way}?"),
    "event": ("What happens to the {one}?", "What happens with the {one}?"),
    "colour at": ("What colour is the {one} at the {when}?", "Which colour does the {one} have at the {when}?"),
    "order": ("What {event} {when}, the {one} or the {other}?", "Which {event} {when}, the {one} or the {other}?"),
    "number at": ("How many {many} are there at the {when}?", "What number of {many} is there at the {when}?"),
}
OPENINGS = ("The picture shows {}.", "I see {}.", "This is a picture of {}.")
FRAMES = tuple(re.sub(r"{\w*}", "", text) for text in (*itertools.chain(*ASKED.values()), *OPENINGS))
"""What stands around the words that are asked about."""
SIDES = (("left of", "right of"), ("above", "below"))
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
MOST_WORDS = 16


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answer and what makes another answer right."""

    skill: str
    text: str
    answer: str
    accepted: tuple[tuple[str, ...], ...]
    """Each a sequence of facts: a right answer names exactly these of the world's words, in this order."""
    chance: float
    """What someone reaches who knows the form of the answer and guesses the rest."""


def correct(question: Question, answer: str) -> bool:
    """Whether the facts that `answer` names are one of the accepted sequences; at most `MOST_WORDS` words, nothing denied."""
    return is_accepted(question.accepted, answer)


def is_accepted(accepted: Sequence[Sequence[str]], answer: str) -> bool:
    """The same for accepted sequences alone, as the frozen sets hold them."""
    return len(answer.split()) <= MOST_WORDS and tuple(said_in(answer)) in {tuple(one) for one in accepted}


def said_in(text: str) -> list[str]:
    """The words of a text that state facts, in the singular and in the present; numerals as they stand."""
    said = re.findall(r"[\w']+", text.lower())
    return [_BASE.get(word, word) for word in said if word in _FACTS or word.isdigit()]


NAMES = (*words.DRAWINGS, *words.SHAPES)
_BASE = {words.plural(name): name for name in NAMES} | {
    "appeared": "appears", "vanished": "vanishes", "disappears": "vanishes", "disappeared": "vanishes", "move": "moves",
    "moved": "moves", "turned": "turns", "becomes": "turns", "became": "turns", "upwards": "up", "downwards": "down",
}  # fmt: skip
_DENIALS = {"not", "no", "never", "nothing", "isn't", "aren't", "nor"}
_EVENTS = {"appears", "vanishes", "moves", "turns", "stays", "up", "down", "first", "last"}
_FACTS = frozenset(
    {*NAMES, *_BASE, *words.WRITTEN, *COLOURS, *words.COLOURS, *NUMBERS, "left", "right", "top", "bottom", "middle", "above",
     "below", "larger", "smaller", *PLACES, *(person.lower() for person in PEOPLE), *_DENIALS, *_EVENTS}
)  # fmt: skip


def caption(items: Sequence[Item], rng: random.Random) -> str:
    """What is there, in one sentence."""
    return rng.choice(OPENINGS).format(_told(items))


def _told(items: Sequence[Item]) -> str:
    if items[0].kind == "writing":
        return listed([f"the {genre(item.word)} {item.word}" for item in items])
    names = Counter(described(item) for item in items)
    if len(items) == 1:
        (name,) = names
        return words.a(name) + (f" {words.at(items[0].place)}" if items[0].place else "")
    if len(items) == len(names) == 2 and (sides := list(sides_of(*items))):
        return f"{words.a(described(items[0]))} {sides[0]} {words.a(described(items[1]))}"
    return listed([words.a(name) if number == 1 else words.number_of(name, number) for name, number in names.items()])


def described(item: Item) -> str:
    """Its name, with its colour where a shape has one."""
    return f"{item.colour} {item.word}" if item.kind == "shape" and item.colour else item.word


def listed(names: Sequence[str]) -> str:
    """ "a ball, a cat and a red star"."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def sides_of(one: Item, other: Item) -> Iterator[str]:
    """On which sides of `other` `one` clearly is."""
    for (less, more), apart in zip(SIDES, (one.x - other.x, one.y - other.y), strict=True):
        if abs(apart) >= APART:
            yield less if apart < 0 else more


def about(kind: str, items: Sequence[Item], rng: random.Random) -> list[Question]:
    """All questions about a picture that was composed for `kind`, in the order of `SKILLS`, each in a phrasing drawn from `rng`."""
    if items[0].kind == "writing":
        return [_reading(items[0], rng)] if len(items) == 1 else []
    count = (_counts,) if kind == "count" else ()  # elsewhere everything is there once
    return [question for ask in (_objects, *count, _colours, _positions, _relations) for question in ask(items, rng)]


def phrase(kind: str, rng: random.Random, **said: str) -> str:
    """A question of this kind about these words."""
    return rng.choice(ASKED[kind]).format(**said)


Items = tuple["Item", ...]


def _alone(items: Items) -> list[Item]:
    """What bears its name alone."""
    number = Counter(item.word for item in items)
    return [item for item in items if number[item.word] == 1]


def _objects(items: Items, rng: random.Random) -> Iterator[Question]:
    names = [described(item) for item in items]
    if len(items) > 2 or len(set(names)) < len(items):
        return
    accepted = {
        tuple(itertools.chain(*order))
        for pick in itertools.product(*({(item.word,), tuple(described(item).split())} for item in items))
        for order in itertools.permutations(pick)
    }
    kind = "object" if len(items) == 1 else "objects"
    answer = f"The picture shows {listed([words.a(name) for name in names])}."
    chance = 1.0
    for number, item in enumerate(items):
        chance /= (len(words.SHAPES) if item.kind == "shape" else len(words.DRAWINGS)) - number
    yield Question("object", phrase(kind, rng), answer, tuple(sorted(accepted)), chance)


def _counts(items: Items, rng: random.Random) -> Iterator[Question]:
    for word, number in Counter(item.word for item in items).items():
        if number < 6:
            say = words.COUNTS[number - 1]
            answer = f"The number of {words.plural(word)} is {say}."
            accepted = [(word, say), (say, word), (say,), (word, str(number)), (str(number), word), (str(number),)]
            yield Question("count", phrase("count", rng, many=words.plural(word)), answer, tuple(accepted), 1 / len(words.COUNTS))


def _colours(items: Items, rng: random.Random) -> Iterator[Question]:
    shapes = [item for item in items if item.colour]
    for item in _alone(items):
        if item.colour:
            text = phrase("colour", rng, one=item.word)
            accepted = ((item.word, item.colour), (item.colour,), (item.colour, item.word))
            yield Question("colour", text, f"The {item.word} is {item.colour}.", accepted, 1 / len(words.COLOURS))
    if len(shapes) > 1 and len({item.colour for item in shapes}) == len(_alone(shapes)) == len(shapes):
        item = rng.choice(shapes)
        text, answer = phrase("coloured", rng, found=item.colour), f"{item.colour.capitalize()} is the {item.word}."
        accepted = ((item.word,), (item.word, item.colour), (item.colour, item.word))
        yield Question("colour", text, answer, accepted, 1 / len(shapes))


def _positions(items: Items, rng: random.Random) -> Iterator[Question]:
    for item in _alone(items):
        if item.place:
            parts = item.place.split()
            accepted = {start + tuple(order) for order in itertools.permutations(parts) for start in ((), (item.word,))}
            text, answer = phrase("position", rng, one=item.word), f"The {item.word} is {words.at(item.place)}."
            yield Question("position", text, answer, tuple(sorted(accepted)), 1 / len(words.PLACES))


def _relations(items: Items, rng: random.Random) -> Iterator[Question]:
    if len(_alone(items)) < len(items):
        return
    for one, other in itertools.permutations(items, 2):
        for side in sides_of(one, other):
            yield _side(one, other, side, rng)
            if len(items) > 2 and _only(one, other, side, items):
                yield _beside(one, other, side, len(items), rng)
        if one.extent >= LARGER * other.extent:
            first, second = rng.sample((one.word, other.word), 2)
            accepted = ((one.word, "larger"), (one.word,), (one.word, "larger", other.word), (other.word, "smaller"),
                        ("larger", one.word))  # fmt: skip
            text = phrase("larger", rng, one=first, other=second)
            yield Question("relation", text, f"Larger is the {one.word}.", accepted, 1 / 2)


def _stated(one: Item, other: Item, side: str) -> tuple[tuple[str, ...], ...]:
    """All ways to say where both are."""
    this, that = side.split()[0], OPPOSITE[side].split()[0]
    return (one.word, this, other.word), (other.word, that, one.word), (this, other.word, one.word), (that, one.word, other.word)


def _side(one: Item, other: Item, side: str, rng: random.Random) -> Question:
    this, that = rng.sample((side, OPPOSITE[side]), 2)
    text = phrase("side", rng, one=one.word, other=other.word, this=this.removesuffix(" of"), that=that)
    found = side.split()[0]
    accepted = (*_stated(one, other, side), (found,), (one.word, found))
    return Question("relation", text, f"The {one.word} is {side} the {other.word}.", accepted, 1 / 2)


def _beside(one: Item, other: Item, side: str, number: int, rng: random.Random) -> Question:
    text = phrase("beside", rng, this=side, other=other.word)
    answer = f"{side.capitalize()} the {other.word} is the {one.word}."
    return Question("relation", text, answer, (*_stated(one, other, side), (one.word,)), 1 / (number - 1))


def _only(one: Item, other: Item, side: str, items: Items) -> bool:
    """Whether all the rest is clearly not on this side of `other`."""
    way = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[side]
    rest = [item for item in items if item not in (one, other)]
    return all(way[0] * (item.x - other.x) + way[1] * (item.y - other.y) < APART / 3 for item in rest)


def genre(text: str) -> str:
    """What a writing is."""
    return "number" if text.isdigit() else "word"


def _reading(item: Item, rng: random.Random) -> Question:
    kind = genre(item.word)
    guess = 1 / len(words.WRITTEN) if kind == "word" else 1 / (9 * 10 ** (len(item.word) - 1) + (len(item.word) == 1))
    return Question("digits", phrase(kind, rng), f"The {kind} is {item.word}.", ((item.word,),), guess)


def moved(word: str, way: str, text: str) -> Question:
    """Which way a thing moves."""
    accepted = ((word, "moves", way), (word, way), ("moves", way), (way,))
    return Question("video_direction", text, f"The {word} moves {way}.", accepted, 1 / 4)


def ended(word: str, colours: Sequence[str], rng: random.Random) -> Iterator[Question]:
    """Which colour it has at the beginning and at the end."""
    for when, colour in zip(("beginning", "end"), colours, strict=True):
        text = phrase("colour at", rng, one=word, when=when)
        accepted = ((word, colour), (colour,), (colour, word))
        yield Question("video_change", text, f"At the {when} the {word} is {colour}.", accepted, 1 / len(words.COLOURS))
