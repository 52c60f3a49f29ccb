"""Pretraining text: stories with questions, requests and sums, logs of tools and small talk, introductions first."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import NUMBER_GAMES, PHRASINGS, draw_sum
from lifecycle.world.config import WorldConfig
from lifecycle.world.dialogue import draw_dialogue
from lifecycle.world.extraction import draw_extraction
from lifecycle.world.knowledge import facts
from lifecycle.world.narration import narrate
from lifecycle.world.questions import Question, add_unanswerable, ask, deep_first, statements
from lifecycle.world.smalltalk import GREETINGS, draw_wish
from lifecycle.world.stories import Story, introduce, write_story
from lifecycle.world.tools import call_json, draw_tool_use
from lifecycle.world.vocabulary import PEOPLE
from lifecycle.world.writing import assign

if TYPE_CHECKING:
    from datasets import Dataset

VALIDATION_DOCUMENTS = 400
ANSWERS_ALONE = 0.9
"""Part of the documents, the first, in which nothing but answers is learnt. Who is in a story and what is asked about it nobody can
foresee: a gradient from there is noise, and drowns the little that says how to look something up. What stories and questions
sound like is soon learnt afterwards."""
INTRODUCTIONS = 0.1
"""Part of the documents, the first of all, in which two people are introduced and asked about, and nothing else is told. Which of
two is meant is learnt where little but that can be learnt: whoever begins with stories of one person learns to take the only word of
the right kind, and goes no further."""
NOT_INTRODUCED = 1
"""Questions, on average, about what an introduction does not tell: whoever never hears that something is not told does not learn it later."""
MOST_ASKED, MOST_FACTS = 8, 12
"""Questions to a story, and facts about one."""
SHORTEST = 4
"""Sentences of the shortest story about which questions are asked afterwards."""
SHARES = {
    "questions": 0.28,
    "summary": 0.10,
    "request": 0.15,
    "sums": 0.20,
    "numbers": 0.05,
    "tools": 0.05,
    "talk": 0.06,
    "dialogue": 0.04,
    "extraction": 0.03,
    "retelling": 0.04,
}
SUMS_AT_FIRST = 0.55
"""Share of sums in the first documents; it falls to what `SHARES` says over the first half. A model learns them all at once or
not at all, after some 400,000 tokens that are dense in them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A text, and which ranges of its characters, (start, end), are there to be read and not to be learnt."""

    text: str
    given: tuple[tuple[int, int], ...] = ()


def pretraining_corpus(config: WorldConfig) -> tuple[Dataset, Dataset, DataRef]:
    """(train, validation, reference): documents in columns "text" and "given", training in an order that teaches.

    Validation draws from another stream of random numbers; skills are measured on held-out combinations instead.
    """
    train, validation = (
        list(documents(dataclasses.replace(config, documents=count), random.Random(f"{name} {config.seed}")))
        for name, count in (("pretrain", config.documents), ("validation", VALIDATION_DOCUMENTS))
    )
    name = f"world/pretrain?seed={config.seed}&documents={config.documents}"
    reference = DataRef(name, content_hash(f"{one.text}{one.given}" for one in train))
    return _as_dataset(train), _as_dataset(validation), reference


def _as_dataset(every: list[Document]) -> Dataset:
    from datasets import Dataset, Features, List, Value

    columns = Features({"text": Value("string"), "given": List(List(Value("int64")))})
    return Dataset.from_dict({"text": [one.text for one in every], "given": [one.given for one in every]}, columns)


def content_hash(texts: Iterable[str]) -> str:
    """sha256 of all texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def documents(config: WorldConfig, rng: random.Random) -> Iterator[Document]:
    """`config.documents` of them, in an order that teaches.

    People are introduced first, sums are most frequent right after that, a question stands beside its answer, and answers alone
    are learnt at first: looking up in context is learnt from text that is dense in it.
    """
    introduced = dataclasses.replace(config, unanswerable=min(config.unanswerable, NOT_INTRODUCED))
    for number in range(config.documents):
        told = number / config.documents
        if told < INTRODUCTIONS:
            yield _questions(introduce(rng), introduced, rng)
            continue
        document = _document(_kind((told - INTRODUCTIONS) / (1 - INTRODUCTIONS), config.facts, rng), config, rng)
        yield document if told < ANSWERS_ALONE else Document(document.text)


def _kind(told: float, facts: float, rng: random.Random) -> str:
    """What the next document is, when the part `told` of all that follow the introductions is there."""
    if facts and rng.random() < facts:
        return "facts"
    sums = max(SHARES["sums"], SUMS_AT_FIRST - 2 * told * (SUMS_AT_FIRST - SHARES["sums"]))
    if rng.random() < sums:
        return "sums"
    others = {kind: share for kind, share in SHARES.items() if kind != "sums"}
    return rng.choices(list(others), list(others.values()))[0]


def _lines(*lines: tuple[str, bool]) -> Document:
    """Lines, each with whether it is there to be read only."""
    given, start = [], 0
    for line, read in lines:
        end = start + len(line) + 1  # with the line break behind it
        if read:
            given.append((start, end))
        start = end
    return Document("\n".join(line for line, _ in lines), tuple(given))


def _exchanges(pairs: Iterable[tuple[str, str]], *before: str) -> Document:
    """What was told before, then questions or requests, each with its answer on the next line; only answers are to be learnt.

    In a chat an answer begins a line as well, so its first word is the same token here and there.
    """
    lines = [(line, True) for line in before]
    for asked, answered in pairs:
        lines += [(asked, True), (answered, False)]
    return _lines(*lines)


def _document(kind: str, config: WorldConfig, rng: random.Random) -> Document:
    longest = config.max_sentences
    if kind in WITHOUT_STORY:
        return WITHOUT_STORY[kind](rng)
    if kind == "request":
        assignment = assign(rng, constrained=rng.random() < 0.6)
        return _exchanges([(assignment.request, assignment.fulfil(rng, max(3, longest)).text)])
    story = write_story(rng, rng.randint(min(SHORTEST, longest), longest))
    return ABOUT_A_STORY[kind](story, config, rng)


def _sums(rng: random.Random) -> Document:
    """Sums, bare or asked for."""
    sums = [draw_sum(rng) for _ in range(8)]
    if rng.random() < 0.7:
        return Document(" ".join(total.solved for total in sums))
    return _exchanges((rng.choice(PHRASINGS).format(sum=total.text), total.solved) for total in sums)


def _tools(rng: random.Random) -> Document:
    """A log of questions, the calls that they led to, what came back, and the answers."""
    uses = [draw_tool_use(rng) for _ in range(3)]
    return _exchanges(
        pair
        for use in uses
        for pair in ((use.question, call_json(use.name, use.arguments)), (use.response, use.answer))
    )


def _numbers(rng: random.Random) -> Document:
    """Comparing, sorting, counting and long sums, with the steps between question and answer."""
    problems = [game(rng) for game in rng.choices(list(NUMBER_GAMES.values()), k=4)]
    return Document("\n".join(" ".join(part for part in (one.question, one.thought, one.answer) if part) for one in problems))


def _talk(rng: random.Random) -> Document:
    """Facts, small talk and wishes."""
    pairs = [(question, answer) for question, answer, _ in rng.sample(facts(), 4)]
    pairs += [rng.choice(list(GREETINGS.items())), draw_wish(rng, harmful=rng.random() < 0.5)]
    rng.shuffle(pairs)
    return _exchanges(pairs)


def _dialogue(rng: random.Random) -> Document:
    """Two people talk: one tells and asks, the other remembers."""
    asker, teller = rng.sample(PEOPLE, 2)
    lines = []
    for said, answered in draw_dialogue(rng).turns:
        lines += [(f"{asker}: {said}", True), (f"{teller}: {answered}", False)]
    return _lines(*lines)


def _extraction(rng: random.Random) -> Document:
    """Sentences and what they hold, as JSON."""
    some = [draw_extraction(rng) for _ in range(2)]
    return _exchanges((one.request, one.answer) for one in some)


def _retelling(story: Story, config: WorldConfig, rng: random.Random) -> Document:
    """The same story in other words, and with the names of those whom it calls "he" or "she"."""
    return _lines((story.text, True), (narrate(list(story.events), rng, pronouns=0), False))


def _facts(story: Story, config: WorldConfig, rng: random.Random) -> Document:
    """The story, and the answers to all questions about it, without these: twice as many look-ups in as much text.

    An answer begins with what it is about, and is to be learnt from its first word that has to be looked up. Numbers are left to
    questions: what they are of comes after them.
    """
    text, given = story.text, [(0, len(story.text) + 1)]
    facts = [question for question in _looked_up(ask(story, rng), story) if question.kind != "how many"]
    for fact in deep_first(facts, config.deep, rng)[:MOST_FACTS]:
        text += "\n"
        given.append((len(text), len(text) + len(fact.about)))
        text += fact.answer
    return Document(text, tuple(given))


def _summary(story: Story, config: WorldConfig, rng: random.Random) -> Document:
    """The story, and how the world stands after it."""
    return _lines((story.text, True), (" ".join(statements(story.world)), False))


def _looked_up(questions: Sequence[Question], story: Story) -> list[Question]:
    """Those whose answer is not the story's only word of the right kind."""
    return [question for question in questions if question.guess(story.text) < 1]


def _questions(story: Story, config: WorldConfig, rng: random.Random) -> Document:
    """The story, and questions whose answer is not its only word of the right kind: one has to look, not only to copy."""
    every = ask(story, rng)
    asked = deep_first(_looked_up(every, story), config.deep, rng)[:MOST_ASKED] or every[:1]
    add_unanswerable(asked, story, rng.randint(0, 2 * config.unanswerable), rng)
    return _exchanges(((question.text, question.answer) for question in asked), story.text)


WITHOUT_STORY: dict[str, Callable[[random.Random], Document]] = {
    "sums": _sums,
    "numbers": _numbers,
    "tools": _tools,
    "talk": _talk,
    "dialogue": _dialogue,
    "extraction": _extraction,
}
ABOUT_A_STORY: dict[str, Callable[[Story, WorldConfig, random.Random], Document]] = {
    "questions": _questions,
    "facts": _facts,
    "summary": _summary,
    "retelling": _retelling,
}
