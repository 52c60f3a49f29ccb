"""From the marks in a server's file to data to learn from, or a clear word about what is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from lifecycle.errors import LifecycleError
from lifecycle.feedback.judgements import Feedback, Preferences, preferences
from lifecycle.feedback.sqlite_file import read_all
from lifecycle.registry import DataRef

MORE = "mark more answers in the chat page"


@dataclass(frozen=True)
class Marks:
    """What can be learnt from; None where there is too little of a kind. Each with its id and hash.

    `pairs` has the columns "prompt", "chosen" and "rejected", `thumbs` "prompt", "completion" and "label".
    """

    pairs: tuple[Dataset, DataRef] | None
    thumbs: tuple[Dataset, DataRef] | None


def collect(path: Path, least: int) -> Marks:
    """At least `least` pairs for two prompts, or as many lone thumbs of which some are up and some down, or both.

    Raises LifecycleError that says what there is and what is missing.
    """
    judgements = read_all(path)
    found = preferences(judgements)
    pairs = found.rows if len(found.rows) >= least and prompts(found.rows) > 1 else None
    thumbs = found.lone if len(found.lone) >= least and both(found.lone) else None
    if pairs is None and thumbs is None:
        raise LifecycleError(missing(path, judgements, found, least))
    name = f"feedback:{path.name}"
    return Marks(pairs and _data(f"{name}/pairs", pairs), thumbs and _data(f"{name}/thumbs", thumbs))


def missing(path: Path, judgements: Sequence[Feedback], found: Preferences, least: int) -> str:
    """Why there is nothing to learn from, and what to do about it."""
    if not judgements:
        return f"{path} holds no mark yet: lifecycle serve, open the page, and {MORE.replace('more', 'some')}"
    skipped = f"; {found.skipped} prompts were left out because they are more than text" if found.skipped else ""
    if not found.rows and not found.lone:
        return f"{path} holds {len(judgements)} marks that say nothing: votes cancel out, or neither answer was better{skipped}; {MORE}"
    liked = sum(thumb["label"] for thumb in found.lone)
    has = f"{path} holds {len(found.rows)} pairs and {len(found.lone)} thumbs without a partner ({liked} up, {len(found.lone) - liked} down)"
    if prompts([*found.rows, *found.lone]) < 2:
        return f"{has}, all {len(judgements)} marks on one prompt: {MORE}, to other prompts{skipped}"
    if not found.rows and not both(found.lone):
        only, other = ("up", "down") if liked else ("down", "up")
        return f"{has}: thumbs {only} alone teach nothing, so give some a thumb {other}, or edit an answer{skipped}"
    return f"{has}, and a round takes {least} of either kind: {MORE}, or --set least={max(2, len(found.rows), len(found.lone))}{skipped}"


def prompts(rows: Sequence[dict[str, Any]]) -> int:
    """How many different prompts."""
    return len({json.dumps(row["prompt"]) for row in rows})


def both(thumbs: Sequence[dict[str, Any]]) -> bool:
    """Whether some are up and some are down."""
    return len({thumb["label"] for thumb in thumbs}) == 2


def _data(name: str, rows: list[dict[str, Any]]) -> tuple[Dataset, DataRef]:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return Dataset.from_list(rows), DataRef(name, hashlib.sha256(text.encode()).hexdigest())
