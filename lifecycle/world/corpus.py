"""Pretraining text: stories with questions, requests and sums, logs of tools and small talk, short stories first."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import NUMBER_GAMES, PHRASINGS, draw_sum
from lifecycle.world.config import WorldConfig
from lifecycle.world.dialogue import draw_dialogue
from lifecycle.world.extraction import draw_extraction
from lifecycle.world.knowledge import facts
from lifecycle.world.narration import narrate
from lifecycle.world.questions import ask, ask_unanswerable, statements
from lifecycle.world.smalltalk import GREETINGS, draw_wish
from lifecycle.world.stories import Story, write_story
from lifecycle.world.tools import call_json, draw_tool_use
from lifecycle.world.vocabulary import PEOPLE
from lifecycle.world.writing import assign

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_DOCUMENTS = 400
SHARES = {
    "questions": 0.30,
    "summary": 0.10,
    "request": 0.15,
    "sums": 0.16,
    "numbers": 0.05,
    "tools": 0.05,
    "talk": 0.06,
    "dialogue": 0.04,
    "extraction": 0.03,
    "retelling": 0.06,
}
SUMS_AT_FIRST = 0.55
"""Share of sums in the first documents; it falls to what `SHARES` says over the first third. A model learns them all at once or
not at all, after some 400,000 tokens that are dense in them."""


def pretraining_corpus(config: WorldConfig) -> tuple[Dataset, Dataset, DataRef]:
    """(train, validation, reference): documents in a column "text", training ordered from short stories to long ones.

    Validation draws from another stream of random numbers; skills are measured on held-out combinations instead.
    """
    train, validation = (
        list(documents(count, config.max_sentences, random.Random(f"{name} {config.seed}"), config.unanswerable))
        for name, count in (("pretrain", config.documents), ("validation", VALIDATION_DOCUMENTS))
    )
    reference = DataRef(f"world/pretrain?seed={config.seed}&documents={config.documents}", content_hash(train))
    from datasets import Dataset

    return Dataset.from_dict({"text": train}), Dataset.from_dict({"text": validation}), reference


def content_hash(texts: Iterable[str]) -> str:
    """sha256 of all texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def documents(count: int, max_sentences: int, rng: random.Random, unanswerable: float = WorldConfig.unanswerable) -> Iterator[str]:
    """`count` documents, in an order that teaches; `unanswerable` as in `WorldConfig`.

    The longest story grows from 2 sentences to `max_sentences` over the first half, sums are most frequent at the beginning,
    and a question stands beside its answer: looking up in context is learnt from text that is dense in it.
    """
    for number in range(count):
        told = number / count
        longest = min(max_sentences, 2 + int(2 * told * (max_sentences - 1)))
        yield _document(_kind(told, rng), longest, unanswerable, rng)


def _kind(told: float, rng: random.Random) -> str:
    """What the next document is, when the part `told` of all of them is there."""
    sums = max(SHARES["sums"], SUMS_AT_FIRST - 3 * told * (SUMS_AT_FIRST - SHARES["sums"]))
    if rng.random() < sums:
        return "sums"
    others = {kind: share for kind, share in SHARES.items() if kind != "sums"}
    return rng.choices(list(others), list(others.values()))[0]


def exchange(asked: str, answered: str) -> str:
    """A question or a request, and on the next line what answers it: how pretraining shows them, and how a base model is asked.

    In a chat an answer begins a line as well, so its first word is the same token here and there.
    """
    return f"{asked}\n{answered}"


def _document(kind: str, longest: int, unanswerable: float, rng: random.Random) -> str:
    if kind in WITHOUT_STORY:
        return WITHOUT_STORY[kind](rng)
    if kind == "request":
        assignment = assign(rng, constrained=rng.random() < 0.6)
        return exchange(assignment.request, assignment.fulfil(rng, max(3, longest)).text)
    story = write_story(rng, rng.randint(1, longest))
    return _with_questions(story, unanswerable, rng) if kind == "questions" else ABOUT_A_STORY[kind](story, rng)


def _sums(rng: random.Random) -> str:
    """Sums, bare or asked for."""
    sums = [draw_sum(rng) for _ in range(8)]
    if rng.random() < 0.7:
        return " ".join(total.solved for total in sums)
    return "\n".join(exchange(rng.choice(PHRASINGS).format(sum=total.text), total.solved) for total in sums)


def _tools(rng: random.Random) -> str:
    """A log of questions, the calls that they led to, what came back, and the answers."""
    uses = [draw_tool_use(rng) for _ in range(3)]
    return "\n".join(
        f"{exchange(use.question, call_json(use.name, use.arguments))}\n{exchange(use.response, use.answer)}" for use in uses
    )


def _numbers(rng: random.Random) -> str:
    """Comparing, sorting, counting and long sums, with the steps between question and answer."""
    problems = [game(rng) for game in rng.choices(list(NUMBER_GAMES.values()), k=4)]
    return "\n".join(" ".join(part for part in (one.question, one.thought, one.answer) if part) for one in problems)


def _talk(rng: random.Random) -> str:
    """Facts, small talk and wishes."""
    lines = [exchange(question, answer) for question, answer, _ in rng.sample(facts(), 4)]
    lines += [exchange(*rng.choice(list(GREETINGS.items()))), exchange(*draw_wish(rng, harmful=rng.random() < 0.5))]
    rng.shuffle(lines)
    return "\n".join(lines)


def _dialogue(rng: random.Random) -> str:
    """Two people talk: one tells and asks, the other remembers."""
    asker, teller = rng.sample(PEOPLE, 2)
    lines = []
    for said, answered in draw_dialogue(rng).turns:
        lines += [f"{asker}: {said}", f"{teller}: {answered}"]
    return "\n".join(lines)


def _extraction(rng: random.Random) -> str:
    """Sentences and what they hold, as JSON."""
    some = [draw_extraction(rng) for _ in range(2)]
    return "\n".join(exchange(one.request, one.answer) for one in some)


def _retelling(story: Story, rng: random.Random) -> str:
    """The same story in other words, and with the names of those whom it calls "he" or "she"."""
    return f"{story.text}\n{narrate(list(story.events), rng, pronouns=0)}"


def _summary(story: Story, rng: random.Random) -> str:
    """The story, and how the world stands after it."""
    return f"{story.text}\n{' '.join(statements(story.world))}"


def _with_questions(story: Story, unanswerable: float, rng: random.Random) -> str:
    """The story, most of its questions, some of them twice in other words: copying from context is learnt from repeats."""
    asked = ask(story, rng)[:8] + ask(story, rng)[:2]
    for _ in range(int(rng.random() < unanswerable) if unanswerable < 1 else rng.randint(0, round(2 * unanswerable))):
        asked.insert(rng.randrange(len(asked) + 1), ask_unanswerable(story, rng))
    return "\n".join([story.text, *(exchange(question.text, question.answer) for question in asked)])


WITHOUT_STORY: dict[str, Callable[[random.Random], str]] = {
    "sums": _sums,
    "numbers": _numbers,
    "tools": _tools,
    "talk": _talk,
    "dialogue": _dialogue,
    "extraction": _extraction,
}
ABOUT_A_STORY: dict[str, Callable[[Story, random.Random], str]] = {
    "summary": _summary,
    "retelling": _retelling,
}
