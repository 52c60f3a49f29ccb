"""The frozen evaluation sets: `data/eval/<skill>.jsonl`, one task a line, made of held-out combinations and phrasings.

Beside them a development split: other tasks of the same kind, for choosing settings, so that the frozen ones are looked at
only when everything is decided.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

from lifecycle.config import choose
from lifecycle.errors import LifecycleError
from lifecycle.world.tasks import SKILLS, Task, draw_tasks, identity

DIRECTORY = Path(__file__).resolve().parents[2] / "data" / "eval"
SIZE = 300
DEVELOPMENT_SIZE = 150
LONGEST_STORY = 12
LOWER_IS_BETTER = frozenset({"needless_call"})


def load(skill: str, limit: int | None = None) -> list[Task]:
    """The tasks of one skill, the first `limit` of them; raises LifecycleError for an unknown skill or a missing file."""
    choose("skill", skill, SKILLS)
    path = DIRECTORY / f"{skill}.jsonl"
    if not path.is_file():
        raise LifecycleError(f"{path} is missing: restore it with git checkout data/eval")
    return [json.loads(line) for line in path.read_text().splitlines()][:limit]


def development(skill: str, limit: int | None = None) -> list[Task]:
    """`DEVELOPMENT_SIZE` tasks with held-out combinations and phrasings, or the first `limit`; none is in the frozen set."""
    frozen = {identity(task) for task in load(skill)}
    rng = random.Random(f"development {skill}")
    return draw_tasks(skill, DEVELOPMENT_SIZE, LONGEST_STORY, rng, held_out=True, without=frozen)[:limit]


def skills(names: Sequence[str] | None) -> list[str]:
    """All skills, or the named ones; raises LifecycleError for an unknown name."""
    for name in names or ():
        choose("skill", name, SKILLS)
    return list(names or SKILLS)


def freeze(directory: Path = DIRECTORY, size: int = SIZE, seed: int = 2026) -> list[Path]:
    """Write all sets anew. Deterministic: the committed files are exactly what this writes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for skill in SKILLS:
        tasks = draw_tasks(skill, size, LONGEST_STORY, random.Random(f"eval {skill} {seed}"), held_out=True)
        path = directory / f"{skill}.jsonl"
        path.write_text("".join(json.dumps(task, ensure_ascii=False) + "\n" for task in tasks))
        written.append(path)
    return written
