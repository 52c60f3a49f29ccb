"""Multiple choice by likelihood: which of the possible answers does the model hold to be the likeliest?

Nothing is generated, so a model is measured by what it knows and not by whether it keeps to a form. The way of the
"Language Model Evaluation Harness": `accuracy` compares sums of log-probabilities, `accuracy_per_byte` (its acc_norm) the
sums divided by the answers' lengths in bytes, so that a long answer is not wrong for its length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.evaluation.statistics import wilson
from lifecycle.jsonl import read_rows
from lifecycle.world.questions import answer_to
from lifecycle.world.tasks import Task

SKILLS = ("reading", "dialogue")
"""What has a word for an answer and others of its kind in the text."""

Context = str | Sequence[dict[str, Any]]
LogLikelihoods = Callable[[Context, Sequence[str]], list[float]]


@dataclass(frozen=True, slots=True)
class Choice:
    """A text or messages, answers that may follow, and which of them is right."""

    context: Context
    answers: tuple[str, ...]
    right: int


@dataclass(frozen=True, slots=True)
class Result:
    """Shares of `n` questions with their 95% intervals; chance is what picking any answer reaches."""

    skill: str
    n: int
    accuracy: float
    low: float
    high: float
    accuracy_per_byte: float
    chance: float


def from_tasks(tasks: Iterable[Task]) -> list[Choice]:
    """The right word against the others of its kind in the text; tasks with no other are left out."""
    found = []
    for task in tasks:
        told = re.findall(r"\w+", " ".join(message["content"] for message in task["messages"]))
        key, rivals = task["check"]["key"], set(task["check"]["rivals"])
        others = [word for word in dict.fromkeys(told) if word in rivals]
        if others:
            words = sorted([key, *others])
            asked = task["messages"][-1]["content"]
            answers = [answer_to(asked, word) for word in words]
            if None in answers:
                raise LifecycleError(f'"{asked}" ends with no question of the world: give your own as lifecycle evaluate --file FILE')
            found.append(Choice(task["messages"], tuple(answers), words.index(key)))
    return found


def read(path: Path) -> list[Choice]:
    """Questions from a file, one JSON object {"context": TEXT or MESSAGES, "answers": [...], "right": INDEX} a line.

    Raises LifecycleError that names the file and the line.
    """
    form = '{"context": "text or messages", "answers": ["...", "..."], "right": 0}'
    return read_rows(path, "a .jsonl file of multiple choice", _choice, form)


def evaluate(skill: str, choices: Sequence[Choice], log_likelihoods: LogLikelihoods) -> Result:
    """Ask for every answer's likelihood; raises LifecycleError when there is no question."""
    if not choices:
        raise LifecycleError(f"{skill} has no multiple choice: ask for more tasks, or choose one of {', '.join(SKILLS)}")
    right = normalised = 0
    for choice in choices:
        scores = log_likelihoods(choice.context, choice.answers)
        per_byte = [score / len(answer.encode()) for score, answer in zip(scores, choice.answers, strict=True)]
        right += _best(scores) == choice.right
        normalised += _best(per_byte) == choice.right
    n = len(choices)
    chance = sum(1 / len(choice.answers) for choice in choices) / n
    return Result(skill, n, right / n, *wilson(right, n), normalised / n, chance)


def to_markdown(results: Sequence[Result]) -> str:
    """A table in percent, one line a skill."""
    lines = ["| skill | accuracy | per byte | chance | questions |", "|---|---|---|---|---|"]
    for one in results:
        interval = f"{one.accuracy:.0%} ({one.low:.0%} to {one.high:.0%})"
        lines.append(f"| {one.skill} | {interval} | {one.accuracy_per_byte:.0%} | {one.chance:.0%} | {one.n} |")
    return "\n".join(lines) + "\n"


def _choice(row: dict[str, Any]) -> Choice:
    context, answers, right = row["context"], tuple(row["answers"]), row["right"]
    if len(answers) < 2 or not all(isinstance(answer, str) and answer for answer in answers):
        raise LifecycleError("two answers or more, none of them empty")
    if type(right) is not int or not 0 <= right < len(answers):
        raise LifecycleError("right is the number of an answer, counted from 0")
    if not context or not isinstance(context, (str, list)):
        raise LifecycleError("the context is a text or a list of messages")
    return Choice(context, answers, right)


def _best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)
