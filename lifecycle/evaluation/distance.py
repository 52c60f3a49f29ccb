"""How far two sequences are apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def edits(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Levenshtein's distance: items to insert, to delete or to replace."""
    row = list(range(len(other) + 1))
    for number, item in enumerate(one, 1):
        before, row[0] = row[0], number
        for place, wanted in enumerate(other, 1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (item != wanted))
    return row[-1]
