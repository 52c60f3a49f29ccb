"""Cuts text into sentences, also while it is still being written: speech begins with the first of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import zip_longest

LONGEST = 240
"""Characters after which a sentence is cut where it can be."""
END = re.compile(r"[.!?…]+[\"')\]”’]*(?=\s)|\n+")
SHORT = re.compile(r"\b(?:(?i:mr|mrs|ms|dr|st|prof|vs|e\.g|i\.e|jr|sr)|[A-HJ-Z])\.$")
"""Full stops that end no sentence; a single letter may be an initial."""
CLAUSE = re.compile(r"[,;:—](?=\s)")
WORD = re.compile(r"\S+(?=\s)")
JOINTS = frozenset("= and as at because before but for from if in into nor of on or over so then to under when where while with".split())
"""Words before which a sentence may be cut without harm to how it sounds."""


class Sentences:
    """Takes text as it comes and gives sentences away as soon as they are complete.

    With `limits` the first pieces may be shorter than sentences, the first at most `limits[0]` words: whoever waits hears
    something sooner. They end, from `least` words on, with a clause, before a joint of the sentence, or at the limit.
    """

    def __init__(self, limits: Sequence[int] = (), least: int = 1) -> None:
        self._rest = ""
        self._limits = list(limits)
        self._least = least

    def push(self, text: str) -> list[str]:
        """Sentences that the new text completes, without the spaces around them."""
        self._rest += text
        found = []
        while cuts := [cut for cut in (_cut(self._rest), self._early()) if cut is not None]:
            piece = self._rest[: min(cuts)].strip()
            self._rest = self._rest[min(cuts) :]
            if piece:
                found.append(piece)
                del self._limits[:1]
        return found

    def _early(self) -> int | None:
        """Where the first piece may end before its sentence does."""
        if not self._limits:
            return None
        words = list(WORD.finditer(self._rest))
        for count, (word, following) in enumerate(zip_longest(words, words[1:]), 1):
            if count < self._least:
                continue
            if word.group()[-1] in ",;:—" or (following and (following.group() in JOINTS or count >= self._limits[0])):
                return word.end()
        return None

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
