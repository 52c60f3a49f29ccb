"""What a version answers to the tasks of each skill, and which answers are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lifecycle.registry import ModelVersion
from lifecycle.world.tasks import Task
from lifecycle.world.verifiers import verify


@dataclass(frozen=True, slots=True)
class Answers:
    """One model's answers to the tasks of one skill, in order."""

    texts: tuple[str, ...]
    right: tuple[bool, ...]

    @classmethod
    def judge(cls, tasks: Sequence[Task], texts: Sequence[str]) -> Answers:
        """Let each task's check decide."""
        return cls(tuple(texts), tuple(verify(task["check"], text) for task, text in zip(tasks, texts, strict=True)))

    @property
    def share(self) -> float:
        """Of right answers."""
        return sum(self.right) / len(self.right)


@dataclass(frozen=True, slots=True)
class Sample:
    """One task and what each model answered to it, by the model's name."""

    skill: str
    prompt: str
    answers: Mapping[str, str]
    right: Mapping[str, bool]

    def to_markdown(self) -> str:
        """The question, and below it the answers side by side; a "+" marks those that pass the check."""
        lines = [f"**{self.skill}** {_cell(self.prompt)}", "", "| model | | answer |", "|---|---|---|"]
        lines += [f"| {name} | {'+' if self.right[name] else '-'} | {_cell(text)} |" for name, text in self.answers.items()]
        return "\n".join(lines) + "\n"


def examine(version: ModelVersion, tasks_of: Mapping[str, Sequence[Task]]) -> dict[str, Answers]:
    """A version's answers by skill; its files are taken as verified."""
    from lifecycle import versions
    from lifecycle.evaluation.answering import Answerer

    with versions.merged(version) as whole:
        answerer = Answerer.load(Path(whole.path), is_base=version.manifest.stage == "pretrain")
    return {skill: Answers.judge(tasks, answerer.answer(tasks)) for skill, tasks in tasks_of.items()}


def samples(tasks_of: Mapping[str, Sequence[Task]], answers: Mapping[str, Mapping[str, Answers]], count: int) -> list[Sample]:
    """The first `count` tasks of each skill with the answers of every model, by name and skill in `answers`."""
    found = []
    for skill, tasks in tasks_of.items():
        for number, task in enumerate(tasks[:count]):
            said = {name: of[skill].texts[number] for name, of in answers.items()}
            right = {name: of[skill].right[number] for name, of in answers.items()}
            found.append(Sample(skill, "\n".join(message["content"] for message in task["messages"]), said, right))
    return found


def _cell(text: str) -> str:
    """Model output in a table: markup is shown and not obeyed."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("\n", "<br>")
