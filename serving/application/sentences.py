"""Cuts text into sentences, also while it is still being written: speech begins with the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 240
"""Characters after which a sentence is cut where it can be."""
END = re.compile(r"[.!?…]+[\"')\]”’]*(?=\s)|\n+")
SHORT = re.compile(r"\b(?:(?i:mr|mrs|ms|dr|st|prof|vs|e\.g|i\.e|jr|sr)|[A-HJ-Z])\.$")
"""Full stops that end no sentence; a single letter may be an initial."""
CLAUSE = re.compile(r"[,;:—](?=\s)")


class Sentences:
    """Takes text as it comes and gives sentences away as soon as they are complete.

    With `eager` the first piece may be a clause of at least so many words: whoever waits hears something sooner.
    """

    def __init__(self, eager: int = 0) -> None:
        self._rest = ""
        self._eager = eager

    def push(self, text: str) -> list[str]:
        """Sentences that the new text completes, without the spaces around them."""
        self._rest += text
        found = []
        while (cut := _cut(self._rest) or self._first_clause()) is not None:
            self._eager = 0
            found.append(self._rest[:cut].strip())
            self._rest = self._rest[cut:]
        return [one for one in found if one]

    def _first_clause(self) -> int | None:
        if not self._eager:
            return None
        ends = (found.end() for found in CLAUSE.finditer(self._rest))
        return next((end for end in ends if len(self._rest[:end].split()) >= self._eager), None)

    def flush(self) -> str:
        """What is left at the end; may be empty."""
        rest, self._rest = self._rest.strip(), ""
        return rest


def sentences(text: str) -> Iterator[str]:
    """All sentences of a text."""
    cutter = Sentences()
    yield from cutter.push(text)
    if rest := cutter.flush():
        yield rest


def _cut(text: str) -> int | None:
    for found in END.finditer(text):
        if found.group().strip() != "." or not SHORT.search(text, 0, found.end()):
            return found.end()
        if found.end() > LONGEST:
            break
    if len(text) <= LONGEST:
        return None
    clauses = [found.end() for found in CLAUSE.finditer(text, 0, LONGEST)]
    if clauses:
        return clauses[-1]
    space = text.rfind(" ", 1, LONGEST)
    return space if space > 0 else LONGEST
