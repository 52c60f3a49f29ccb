"""The report card: every version on the same frozen tasks, with intervals and a chance line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lifecycle.evaluation import sets
from lifecycle.evaluation.statistics import wilson
from lifecycle.registry import ModelVersion
from lifecycle.world.tasks import Task
from lifecycle.world.verifiers import verify


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
    """Rows of one or more versions, in the order in which they were asked for."""

    rows: tuple[Row, ...]

    def of(self, version: str) -> dict[str, Row]:
        """One version's rows by skill."""
        return {row.skill: row for row in self.rows if row.version == version}

    def versions(self) -> list[str]:
        return list(dict.fromkeys(row.version for row in self.rows))

    def skills(self) -> list[str]:
        return list(dict.fromkeys(row.skill for row in self.rows))

    def to_json(self) -> str:
        """A list of rows, as `lifecycle report --json` writes it."""
        return json.dumps([asdict(row) for row in self.rows], indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ReportCard:
        return cls(tuple(Row(**row) for row in json.loads(text)))

    def to_markdown(self) -> str:
        """A table in percent: one line a skill, one column a version, 95% interval in brackets, chance last."""
        versions = self.versions()
        lines = ["| skill | " + " | ".join(versions) + " | chance |", "|---" * (len(versions) + 2) + "|"]
        for skill in self.skills():
            rows = [self.of(version)[skill] for version in versions]
            mark = " (lower is better)" if skill in sets.LOWER_IS_BETTER else ""
            cells = [f"{row.value:.0%} ({row.low:.0%} to {row.high:.0%})" for row in rows]
            lines.append(f"| {skill}{mark} | " + " | ".join(cells) + f" | {rows[0].chance:.0%} |")
        return "\n".join(lines) + "\n"


def report(
    versions: Iterable[ModelVersion],
    *,
    skills: Sequence[str] | None = None,
    limit: int | None = None,
    development: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> ReportCard:
    """Score versions on the frozen sets, or on the development split (or on the first `limit` tasks of each).

    A version answers each task once: greedily, but stories are sampled, always with the same seed.
    """
    chosen = sets.skills(skills)
    rows: list[Row] = []
    for version in versions:
        progress(f"{version.ref}: {', '.join(chosen)}")
        rows += score(version, {skill: (sets.development if development else sets.load)(skill, limit) for skill in chosen})
    return ReportCard(tuple(rows))


def score(version: ModelVersion, tasks_of: Mapping[str, Sequence[Task]]) -> list[Row]:
    """One row per skill for one version, which answers that skill's tasks; its files are taken as verified."""
    from lifecycle.evaluation.answering import Answerer

    stage = version.manifest.stage
    answerer = Answerer.load(Path(version.path), is_base=stage == "pretrain")
    rows = []
    for skill, tasks in tasks_of.items():
        answers = answerer.answer(tasks)
        right = sum(verify(task["check"], answer) for task, answer in zip(tasks, answers, strict=True))
        low, high = wilson(right, len(tasks))
        chance = sum(task["chance"] for task in tasks) / len(tasks)
        rows.append(Row(version.ref, stage, skill, right / len(tasks), low, high, len(tasks), version.manifest.seed or 0, chance))
    return rows


def regressions(new: ReportCard, old: ReportCard) -> list[str]:
    """Where one version is worse than another beyond noise: the 95% intervals do not overlap. One line a skill."""
    before, after = old.of(old.versions()[0]), new.of(new.versions()[0])
    lines = []
    for skill in before.keys() & after.keys():
        was, is_ = before[skill], after[skill]
        worse = is_.low > was.high if skill in sets.LOWER_IS_BETTER else is_.high < was.low
        if worse:
            lines.append(f"{skill} {is_.value:.0%} ({is_.version}) against {was.value:.0%} ({was.version})")
    return sorted(lines)
