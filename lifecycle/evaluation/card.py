"""The report card: every version on the same frozen tasks, with intervals and a chance line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from lifecycle.evaluation import sets
from lifecycle.evaluation.examination import Answers, Sample, examine
from lifecycle.evaluation.examination import samples as samples_of
from lifecycle.evaluation.statistics import wilson
from lifecycle.registry import ModelVersion
from lifecycle.world.tasks import Task

BLANK = " (blank)"
"""Ends the name of a set of pictures whose questions are asked about grey ones."""


@dataclass(frozen=True, slots=True)
class Row:
    """One version's result in one skill: a share of `n` tasks with its 95% interval.

    `seed` is the one that the version was trained with; `chance` is what guessing reaches.
    """

    version: str
    stage: str
    skill: str
    value: float
    low: float
    high: float
    n: int
    seed: int
    chance: float


@dataclass(frozen=True, slots=True)
class ReportCard:
    """Rows of one or more versions, in the order in which they were asked for, and some of their answers."""

    rows: tuple[Row, ...]
    samples: tuple[Sample, ...] = ()

    def of(self, version: str) -> dict[str, Row]:
        """One version's rows by skill."""
        return {row.skill: row for row in self.rows if row.version == version}

    def versions(self) -> list[str]:
        return list(dict.fromkeys(row.version for row in self.rows))

    def skills(self) -> list[str]:
        return list(dict.fromkeys(row.skill for row in self.rows))

    def to_json(self) -> str:
        """{"rows": [...], "samples": [...]}, as `lifecycle report --json` writes it."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ReportCard:
        found = json.loads(text)
        return cls(tuple(Row(**row) for row in found["rows"]), tuple(Sample(**sample) for sample in found["samples"]))

    def to_markdown(self) -> str:
        """A table in percent: one line a skill, one column a version, 95% interval in brackets, chance last; then the samples."""
        versions = self.versions()
        lines = ["| skill | " + " | ".join(versions) + " | chance |", "|---" * (len(versions) + 2) + "|"]
        for skill in self.skills():
            rows = [self.of(version).get(skill) for version in versions]
            known = next(row for row in rows if row)
            mark = " (lower is better)" if skill in sets.LOWER_IS_BETTER else ""
            cells = [f"{row.value:.0%} ({row.low:.0%} to {row.high:.0%})" if row else "" for row in rows]
            lines.append(f"| {skill}{mark} | " + " | ".join(cells) + f" | {known.chance:.0%} |")
        return "\n".join(["\n".join(lines) + "\n", *(sample.to_markdown() for sample in self.samples)])


def report(
    versions: Iterable[ModelVersion],
    *,
    skills: Sequence[str] | None = None,
    limit: int | None = None,
    development: bool = False,
    samples: int = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> ReportCard:
    """Score versions on the frozen sets, or on the development split (or on the first `limit` tasks of each).

    A version that sees is asked about the frozen pictures as well, once as they are and once with all of them blank; one that
    hears is spoken to; `skills` leaves these out. A version answers each task once: greedily, but stories are sampled, always with the same seed. Of the first `samples`
    tasks of each skill the answers are kept.
    """
    from lifecycle.model.directory import sees, speaks

    tasks_of = {skill: (sets.development if development else sets.load)(skill, limit) for skill in sets.skills(skills)}
    rows: list[Row] = []
    answers: dict[str, dict[str, Answers]] = {}
    for version in versions:
        progress(f"{version.ref}: {', '.join(tasks_of)}")
        answers[version.ref] = examine(version, tasks_of)
        rows += [row(version, skill, tasks, answers[version.ref][skill]) for skill, tasks in tasks_of.items()]
        if not skills and sees(version.path):
            rows += seeing_rows(version, limit, development)
        if not skills and speaks(version.path):
            rows += speaking_rows(version, limit, development)
    return ReportCard(tuple(rows), tuple(samples_of(tasks_of, answers, samples)))


def row(version: ModelVersion, skill: str, tasks: Sequence[Task], answers: Answers) -> Row:
    """One version's result in one skill."""
    return _row(version, skill, answers.right, chance(tasks))


def _row(version: ModelVersion, skill: str, right: Sequence[bool], guess: float) -> Row:
    n, hits = len(right), sum(right)
    low, high = wilson(hits, n)
    return Row(version.ref, version.manifest.stage, skill, hits / n, low, high, n, version.manifest.seed or 0, guess)


def seeing_rows(version: ModelVersion, limit: int | None = None, development: bool = False) -> list[Row]:
    """A version that sees on the frozen visual sets, or on the development split, each followed by "(blank)": the same questions about grey pictures."""
    from lifecycle.evaluation import sights
    from lifecycle.evaluation.seeing import SeeingAnswerer
    from lifecycle.world.sights import correct

    answerer = SeeingAnswerer(version.path)
    rows = []
    for name in sights.SETS:
        tasks = (sights.development if development else sights.load)(name, limit)
        guess = sum(task.question.chance for task in tasks) / len(tasks)
        for skill, blind in ((name, False), (name + BLANK, True)):
            told = answerer.answer(tasks, blind=blind)
            right = [correct(task.question, text) for task, text in zip(tasks, told, strict=True)]
            rows.append(_row(version, skill, right, guess))
    return rows


def speaking_rows(version: ModelVersion, limit: int | None = None, development: bool = False) -> list[Row]:
    """A version that hears and speaks: numbers and names understood, in voices that it knows and in another, and said aloud."""
    from lifecycle.evaluation.hearing import examine

    return [_row(version, skill, right, 1 / spoken) for skill, right, spoken in examine(version.path, limit, development)]


def chance(tasks: Sequence[Task]) -> float:
    """What guessing reaches, on average."""
    return sum(task["chance"] for task in tasks) / len(tasks)


def setbacks(new: ReportCard, old: ReportCard) -> list[str]:
    """What speaks against putting one version in the place of another: skills that it lacks, and those that it is worse in."""
    before, after = old.of(old.versions()[0]), new.of(new.versions()[0])
    lost = [skill for skill in before.keys() - after.keys() if not skill.endswith(BLANK)]
    lines = [f"{skill} is not there any more ({before[skill].value:.0%} in {before[skill].version})" for skill in lost]
    return sorted([*lines, *regressions(new, old)])


def regressions(new: ReportCard, old: ReportCard) -> list[str]:
    """Where one version is worse than another beyond noise: the 95% intervals do not overlap. One line a skill.

    What is known without looking is no skill.
    """
    before, after = old.of(old.versions()[0]), new.of(new.versions()[0])
    lines = []
    for skill in before.keys() & after.keys():
        if skill.endswith(BLANK):
            continue
        was, is_ = before[skill], after[skill]
        worse = is_.low > was.high if skill in sets.LOWER_IS_BETTER else is_.high < was.low
        if worse:
            lines.append(f"{skill} {is_.value:.0%} ({is_.version}) against {was.value:.0%} ({was.version})")
    return sorted(lines)
