"""Pretraining text: stories with questions, requests and sums, logs of tools and small talk, short stories first."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator

from datasets import Dataset

from lifecycle.registry import DataRef
from lifecycle.world.arithmetic import PHRASINGS, draw_sum
from lifecycle.world.config import WorldConfig
from lifecycle.world.knowledge import facts
from lifecycle.world.narration import narrate
from lifecycle.world.questions import ask, ask_unanswerable, statements
from lifecycle.world.smalltalk import GREETINGS
from lifecycle.world.stories import Story, write_story
from lifecycle.world.tools import call_json, draw_tool_use
from lifecycle.world.vocabulary import PEOPLE
from lifecycle.world.writing import assign

VALIDATION_DOCUMENTS = 400
SHARES = {
    "questions": 0.32,
    "summary": 0.14,
    "request": 0.14,
    "sums": 0.23,
    "tools": 0.11,
    "talk": 0.03,
    "dialogue": 0.01,
    "retelling": 0.02,
}


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
    """`count` documents, in an order that teaches.

    The longest story grows from 2 sentences to `max_sentences` over the first half. Questions stand beside their answers,
    which is dense and quickly learnt, until for the last 30% they take the form of a transcript, which chatting will need.
    """
    kinds, weights = list(SHARES), list(SHARES.values())
    for number in range(count):
        longest = min(max_sentences, 2 + int(2 * number / count * (max_sentences - 1)))
        form = transcript if number >= 0.7 * count else lines
        yield _document(rng.choices(kinds, weights)[0], longest, form, rng)


Turn = tuple[str, str]  # what the user says, what the assistant answers
Form = Callable[[Iterable[Turn]], str]


def lines(turns: Iterable[Turn]) -> str:
    """Each question and its answer on one line."""
    return "\n".join(f"{asked} {answered}" for asked, answered in turns)


def transcript(turns: Iterable[Turn]) -> str:
    """Each speaker's role on a line of its own, as in a chat."""
    return "\n".join(f"user\n{asked}\nassistant\n{answered}" for asked, answered in turns)


def _document(kind: str, longest: int, form: Form, rng: random.Random) -> str:
    if kind in WITHOUT_STORY:
        return WITHOUT_STORY[kind](form, rng)
    if kind == "request":
        assignment = assign(rng, constrained=rng.random() < 0.6)
        return form([(assignment.request, assignment.fulfil(rng, max(3, longest)).text)])
    story = write_story(rng, rng.randint(min(2, longest), longest))
    return _with_questions(story, form, rng) if kind == "questions" else ABOUT_A_STORY[kind](story, rng)


def _sums(form: Form, rng: random.Random) -> str:
    """Sums, bare or asked for."""
    sums = [draw_sum(rng) for _ in range(8)]
    if rng.random() < 0.5:
        return " ".join(total.solved for total in sums)
    return form((rng.choice(PHRASINGS).format(sum=total.text), total.solved) for total in sums)


def _tools(form: Form, rng: random.Random) -> str:
    """A log of questions, the calls that they led to, what came back, and the answers."""
    turns: list[Turn] = []
    for _ in range(3):
        use = draw_tool_use(rng)
        turns += [(use.question, call_json(use.name, use.arguments)), (use.response, use.answer)]
    return form(turns)


def _talk(form: Form, rng: random.Random) -> str:
    """Facts and small talk."""
    turns = [(question, answer) for question, answer, _ in rng.sample(facts(), 4)]
    turns.append(rng.choice(list(GREETINGS.items())))
    rng.shuffle(turns)
    return form(turns)


def _retelling(story: Story, rng: random.Random) -> str:
    """The same story in other words."""
    return f"{story.text}\n{narrate(list(story.events), rng)}"


def _summary(story: Story, rng: random.Random) -> str:
    """The story, and how the world stands after it."""
    return f"{story.text}\n{' '.join(statements(story.world))}"


def _with_questions(story: Story, form: Form, rng: random.Random) -> str:
    """The story, most of its questions, some of them twice in other words: copying from context is learnt from repeats."""
    asked = ask(story, rng)[:5] + ask(story, rng)[:2]
    for _ in range(rng.choice((0, 1, 1, 2))):
        asked.insert(rng.randrange(len(asked) + 1), ask_unanswerable(story, rng))
    turns = [(question.text, question.answer) for question in asked]
    turns[0] = (f"{story.text}\n{turns[0][0]}", turns[0][1])
    return form(turns)


def _dialogue(story: Story, rng: random.Random) -> str:
    """Two people talk about what happened; the one who asks thanks the other."""
    asker, teller = rng.sample([person for person in PEOPLE if person not in story.world.place_of], 2)
    lines = [f"{teller}: {story.text}"]
    for question in ask(story, rng)[:4]:
        lines += [f"{asker}: {question.text}", f"{teller}: {question.answer}"]
    return "\n".join([*lines, f"{asker}: Thank you, {teller}."])


WITHOUT_STORY: dict[str, Callable[[Form, random.Random], str]] = {"sums": _sums, "tools": _tools, "talk": _talk}
ABOUT_A_STORY: dict[str, Callable[[Story, random.Random], str]] = {
    "summary": _summary,
    "dialogue": _dialogue,
    "retelling": _retelling,
}
