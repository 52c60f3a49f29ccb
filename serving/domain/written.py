"""From words as they are heard to how people write them: sums. Ears write "58 minus 51", and who writes a sum writes 58 - 51."""

from __future__ import annotations

import re

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = {word: 10 * at for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
SIGNS = {"plus": "+", "minus": "-", "times": "*"}
_BELOW_TEN = "|".join(ONES[1:10])
NUMBER = rf"(?:\d+|(?:{'|'.join(TENS)})(?:[- ](?:{_BELOW_TEN}))?|{'|'.join(reversed(ONES))})"
_SIGN = re.compile(rf"\b({NUMBER})\s+({'|'.join(SIGNS)})(?=\s+{NUMBER}\b)", re.IGNORECASE)
_LAST = re.compile(rf"(?<= [-+*] )({NUMBER})\b", re.IGNORECASE)
_EQUALS = re.compile(r"(\d)\s+equals\s*(?:what)?[\s.?!]*$", re.IGNORECASE)


def as_written(text: str) -> str:
    """The text with its sums in figures and signs; everything else as it is."""
    text = _SIGN.sub(lambda found: f"{_figures(found[1])} {SIGNS[found[2].lower()]}", text)
    text = _LAST.sub(lambda found: _figures(found[1]), text)
    return _EQUALS.sub(r"\1 = ?", text)


def _figures(number: str) -> str:
    if number.isdigit():
        return number
    return str(sum(TENS[word] if word in TENS else ONES.index(word) for word in re.split(r"[- ]", number.lower())))
