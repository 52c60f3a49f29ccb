"""Pretraining text: stories with questions, sums, facts and dialogues, short stories first."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator

from datasets import Dataset

from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import draw_sum
from lifecycle.world.config import WorldConfig
from lifecycle.world.knowledge import facts
from lifecycle.world.narration import narrate
from lifecycle.world.questions import ask, ask_unanswerable, statements
from lifecycle.world.stories import Story, write_story
from lifecycle.world.vocabulary import PEOPLE

VALIDATION_DOCUMENTS = 400
SHARES = {"summary": 0.30, "questions": 0.32, "retelling": 0.05, "sums": 0.22, "dialogue": 0.06, "story": 0.03, "facts": 0.02}


def pretraining_corpus(config: WorldConfig) -> tuple[Dataset, Dataset, DataRef]:
    """(train, validation, reference): documents in a column "text", training ordered from short stories to long ones.

    Validation draws from another stream of random numbers; skills are measured on held-out combinations instead.
    """
    train = list(documents(config.documents, config.max_sentences, random.Random(f"pretrain {config.seed}")))
    validation = list(documents(VALIDATION_DOCUMENTS, config.max_sentences, random.Random(f"validation {config.seed}")))
    reference = DataRef(f"world/pretrain?seed={config.seed}&documents={config.documents}", content_hash(train))
    return Dataset.from_dict({"text": train}), Dataset.from_dict({"text": validation}), reference


def content_hash(texts: Iterable[str]) -> str:
    """sha256 of all texts, in order."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def documents(count: int, max_sentences: int, rng: random.Random) -> Iterator[str]:
    """`count` documents; the longest story allowed grows from 2 sentences to `max_sentences` over the first half."""
    kinds, weights = list(SHARES), list(SHARES.values())
    for number in range(count):
        longest = min(max_sentences, 2 + int(2 * number / count * (max_sentences - 1)))
        yield _document(rng.choices(kinds, weights)[0], longest, rng)


def _document(kind: str, longest: int, rng: random.Random) -> str:
    if kind == "sums":
        return " ".join(draw_sum(rng).solved for _ in range(8))
    if kind == "facts":
        return " ".join(answer for _, answer, _ in rng.sample(facts(), 6))
    story = write_story(rng, rng.randint(min(2, longest), longest))
    if kind == "story":
        return story.text
    if kind == "retelling":
        return f"{story.text}\n{narrate(list(story.events), rng)}"
    if kind == "summary":
        return f"{story.text}\n{' '.join(statements(story.world))}"
    return _dialogue(story, rng) if kind == "dialogue" else _with_questions(story, rng)


def _with_questions(story: Story, rng: random.Random) -> str:
    """The story, most of its questions, some of them twice in other words: copying from context is learnt from repeats."""
    asked = ask(story, rng)[:7]
    asked += [question for question in ask(story, rng)[:3]]
    if rng.random() < 0.3:
        asked.insert(rng.randrange(len(asked) + 1), ask_unanswerable(story, rng))
    return "\n".join([story.text, *(f"{question.text} {question.answer}" for question in asked)])


def _dialogue(story: Story, rng: random.Random) -> str:
    """Two people talk about what happened; the one who asks thanks the other."""
    asker, teller = rng.sample([person for person in PEOPLE if person not in story.world.place_of], 2)
    lines = [f"{teller}: {story.text}"]
    for question in ask(story, rng)[:4]:
        lines += [f"{asker}: {question.text}", f"{teller}: {question.answer}"]
    return "\n".join([*lines, f"{asker}: Thank you, {teller}."])
