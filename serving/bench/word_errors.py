"""How well what was heard agrees with what was said: by words, numbers and signs spelt out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lifecycle.evaluation.distance import edits
from serving.infrastructure.speech.wording import spoken_words


def words(text: str) -> list[str]:
    """As they are spoken, in small letters."""
    return re.findall(r"[a-z']+", spoken_words(text).lower())


def word_error_rate(said: Sequence[str], heard: Sequence[str]) -> float:
    """Words to insert, to leave out or to replace in all of `heard`, per word of `said`."""
    wrong = sum(edits(words(one), words(other)) for one, other in zip(said, heard, strict=True))
    return wrong / sum(len(words(one)) for one in said)
