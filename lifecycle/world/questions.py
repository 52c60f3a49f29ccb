"""Questions about a story, each with a short sentence for an answer and the one word that makes it right.

An answer first repeats what is asked about and says then what is so: "The ball is red.", not "It is red.". Whoever writes it
has the word to look for right before the one that is found, and only there has to know whether the story tells of it: no other
answer goes on with "does".
No answer begins with a word that is looked up: a byte-level tokenizer writes a word in the middle of a line and at its
beginning as two tokens that have nothing in common, and copying one as the other has to be learnt word by word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lifecycle.world.holdout import phrasing_is_held_out
from lifecycle.world.state import World
from lifecycle.world.stories import Story
from lifecycle.world.vocabulary import COLOURS, FEELINGS, GOODS, NUMBERS, PEOPLE, PLACES, THINGS

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
ANSWERS: dict[str, str] = {
    "who has": "The {thing} is with {key}.",
    "where person": "I think {person} is in the {key}.",
    "where thing": "The {thing} is in the {key}.",
    "colour": "The {thing} is {key}.",
    "why": "I think {person} was {key}.",
    "what has": "I think {person} has the {key}.",
    "who with": "I think {person} is with {key}.",
    "how many": "I think {person} has {key} {goods}.",
    "before place": "I think {person} came from the {key}.",
    "before holder": "The {thing} was with {key}.",
    "before colour": "The {thing} was {key}.",
    "what if": "The {thing} would be with {key}.",
}
HELD_SOMEWHERE = "The {thing} is with {holder} in the {key}."
WANTED = "I think {person} wanted the {key}."
EMPTY_HANDS = "I think {person} has {key}."
NO_SUCH_THING = "The {thing} does not come up in the story, so I don't know."
NO_SUCH_PERSON = "I think {person} does not come up in the story, so I don't know."
NO_SUCH_GOODS = "I think {person} has no {goods} in the story, so I don't know."
DEEP = frozenset(("what has", "who with", "how many", "before place", "before holder"))
"""Kinds that take more than one look: whoever gave a thing away is still told to have had it, and who left a place to have been there."""
LEADS = ("", "Tell me, ", "Please say, ", "Do you know, ", "Can you say, ")


@dataclass(frozen=True, slots=True)
class Question:
    """`key` is the word that a right answer names; `rivals` are the words of its class that it must not name."""

    kind: str
    text: str
    answer: str
    key: str
    rivals: tuple[str, ...]
    about: str = ""
    """How the answer begins: with what is asked about, up to the first word that has to be looked up."""

    def guess(self, text: str) -> float:
        """What picking one of the text's words of the right class at random would reach."""
        return 1 / max(1, len(set(re.findall(r"\w+", text)) & {self.key, *self.rivals}))


def ask(story: Story, rng: random.Random, *, held_out: bool = False) -> list[Question]:
    """All questions that the story answers, in random order; two things in one hand are not asked for."""
    found = []
    for kind, key, every, words in _answered(story):
        said = {key, *words.values()}
        rivals = tuple(rival for rival in every if rival not in said)
        about = _LOOKED_UP.split(_template(kind, key, words))[0].format(**words)
        found.append(Question(kind, _phrase(kind, words, rng, held_out), say(kind, key, words), key, rivals, about))
    rng.shuffle(found)
    return found


def deep_first(questions: Sequence[Question], weight: int, rng: random.Random) -> list[Question]:
    """The questions in a new random order, in which a deep one is `weight` times as likely to come next as another; for 1 as they are.

    Efraimidis and Spirakis (2006): sorted by u^(1/weight), with a random u of each.
    """
    if weight == 1:
        return list(questions)
    return sorted(questions, key=lambda question: rng.random() ** (1 / weight if question.kind in DEEP else 1), reverse=True)


def say(kind: str, key: str, words: Mapping[str, str]) -> str:
    """The answer to a question of this kind about these words, of which `key` is the right one."""
    return _template(kind, key, words).format(key=key, **words)


_LOOKED_UP = re.compile(r"(?: the)? \{(?:key|holder)\}")


def _template(kind: str, key: str, words: Mapping[str, str]) -> str:
    if kind == "where thing" and words.get("holder"):  # two steps, and the answer says both
        return HELD_SOMEWHERE
    if kind == "why" and key not in FEELINGS:
        return WANTED
    return EMPTY_HANDS if key == "nothing" else ANSWERS[kind]


def answer_to(text: str, key: str) -> str | None:
    """What the world says to a question in its own words whose right answer is `key`; None for a question in other words."""
    for kind, pattern in _QUESTIONS:
        if match := pattern.search(text):
            return say(kind, key, match.groupdict())
    return None


def _pattern(core: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>\\w+)", re.escape(core)) + "$", re.IGNORECASE)


_QUESTIONS = [(kind, _pattern(core)) for kind, cores in CORES.items() for core in cores]

Answered = tuple[str, str, Sequence[str], dict[str, str]]  # kind, key, the key's class, words of the question


def _answered(story: Story) -> Iterator[Answered]:
    yield from _about_things(story.world)
    yield from _about_people(story.world)
    hands = [event for event in story.events if event.kind in ("give", "drop", "take")]
    for event in hands:  # what if: only of what changed hands once
        if event.kind == "give" and sum(other.thing == event.thing for other in hands) == 1:
            yield "what if", event.who, PEOPLE, {"thing": event.thing}


def _about_things(world: World) -> Iterator[Answered]:
    for thing, holder in world.holder_of.items():
        words = {"thing": thing}
        yield "who has", holder or "nobody", (*PEOPLE, "nobody"), words
        yield "where thing", world.where(thing), PLACES, {**words, "holder": holder} if holder else words
        yield "colour", world.colour_of[thing], COLOURS, words
        if thing in world.colour_before:
            yield "before colour", world.colour_before[thing], COLOURS, words
        if thing in world.had_before and world.had_before[thing] is not None:
            yield "before holder", world.had_before[thing], PEOPLE, words


def _about_people(world: World) -> Iterator[Answered]:
    for person, place in world.place_of.items():
        words = {"person": person}
        yield "where person", place, PLACES, words
        if person in world.came_from:
            yield "before place", world.came_from[person], PLACES, words
        things = world.things_of(person)
        if len(things) < 2:
            yield "what has", things[0] if things else "nothing", (*THINGS, "nothing"), words
        company = world.with_whom(person)
        if len(world.place_of) > 1 and len(company) < 2:
            yield "who with", company[0] if company else "nobody", (*PEOPLE, "nobody"), words
    for (person, place), reason in world.reasons.items():
        yield "why", reason, FEELINGS if reason in FEELINGS else THINGS, {"person": person, "place": place}
    for (person, goods), number in world.number_of.items():
        yield "how many", NUMBERS[number], NUMBERS, {"person": person, "goods": goods}


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
    missing = NO_SUCH_PERSON if "{person}" in CORES[kind][0] else NO_SUCH_THING
    if kind == "how many" and rng.random() < 0.5:  # somebody who is there, and goods that they do not have
        words["person"], missing = rng.choice(list(story.world.place_of)), NO_SUCH_GOODS
    return Question(kind, _phrase(kind, words, rng, held_out), missing.format(**words), "know", ())


def add_unanswerable(asked: list[Question], story: Story, count: int, rng: random.Random) -> None:
    """Put `count` questions that the story does not answer anywhere between those in `asked`."""
    for _ in range(count):
        asked.insert(rng.randrange(len(asked) + 1), ask_unanswerable(story, rng))


def _phrase(kind: str, words: dict[str, str], rng: random.Random, held_out: bool) -> str:
    """A phrasing from training's share, or (for evaluation) from the held-out share where there is one."""
    every = [(lead, core) for lead in LEADS for core in CORES[kind]]
    share = [(lead, core) for lead, core in every if phrasing_is_held_out(kind, lead, core) == held_out] or every
    lead, core = rng.choice(share)
    text = lead + core.format(**words)
    return text[0].upper() + text[1:]
