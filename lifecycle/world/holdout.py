"""Which combinations and templates training never shows, decided by a hash so that every split agrees for ever."""

from __future__ import annotations

import functools
import hashlib


@functools.cache
def bucket(*parts: object, of: int) -> int:
    """A stable number in [0, of) for a combination; independent of Python's hash seed."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % of


def owner_is_held_out(person: str, thing: str) -> bool:
    """One in eight (person, thing) pairs: no training story ever puts this thing in this person's hands."""
    return bucket("owner", person, thing, of=8) == 0


def pair_is_held_out(one: str, other: str) -> bool:
    """One in five pairs of people: no training request ever asks for a story about these two."""
    return bucket("pair", *sorted((one, other)), of=5) == 0


def sum_is_held_out(a: int, operator: str, b: int) -> bool:
    """One in five sums of two numbers; 34 + 12 is held out with 12 + 34."""
    if operator == "+":
        a, b = sorted((a, b))
    return bucket("sum", a, operator, b, of=5) == 0


def phrasing_is_held_out(kind: str, lead: str, core: str) -> bool:
    """One in four (opening, question) phrasings: both halves are known from elsewhere, their combination is not."""
    return bool(lead) and bucket("phrasing", kind, lead, core, of=4) == 0
