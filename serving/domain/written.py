"""From words as they are heard to how people write them: numbers and sums.

Ears write "58 minus 51" and "seventeen or forty"; who writes has 58 - 51 and 17 or 40. Numbers below ten stay words, except
in sums and beside figures.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = {word: 10 * at for at, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
SIGNS = {"plus": "+", "minus": "-", "times": "*", "equals": "="}
_BELOW_TEN = "|".join(ONES[1:10])
_BELOW_HUNDRED = rf"(?:(?:{'|'.join(TENS)})(?:[- ](?:{_BELOW_TEN}))?|{'|'.join(reversed(ONES))})"
_HUNDREDS = rf"(?:(?:a|{_BELOW_TEN})[- ]hundred(?:(?: and)?[- ]{_BELOW_HUNDRED})?)"
_NUMBER = re.compile(rf"\b(?:\d+|{_HUNDREDS}|{_BELOW_HUNDRED})\b", re.IGNORECASE)
_SIGN = re.compile(r"\s+(plus|minus|times|equals)\s+", re.IGNORECASE)
_BESIDE = re.compile(r",?\s+(?:or\s+)?", re.IGNORECASE)
_EQUALS = re.compile(r"(\d)\s+equals\s*(?:what)?[\s.?!]*$", re.IGNORECASE)


@dataclass(slots=True)
class _Number:
    """One in a text. `before` is what is between the one before and this one."""

    before: str
    said: str
    value: int
    figures: bool

    @property
    def written(self) -> str:
        return str(self.value) if self.figures and not self.said.isdigit() else self.said


def as_written(text: str) -> str:
    """The text with numbers and sums in figures and signs; everything else as it is."""
    numbers, rest = _numbers(text)
    _beside_figures(numbers)
    pieces = []
    for at, number in enumerate(numbers):
        before = number.before
        if at and number.figures and numbers[at - 1].figures:
            if sign := _SIGN.fullmatch(before):
                before = f" {SIGNS[sign[1].lower()]} "
            elif before == " " and _listed(numbers, at):
                before = ", "
        pieces += [before, number.written]
    return _EQUALS.sub(r"\1 = ?", "".join([*pieces, rest]))


def _numbers(text: str) -> tuple[list[_Number], str]:
    """All of a text, and what comes after them."""
    found, at = [], 0
    for match in _NUMBER.finditer(text):
        value = _value(match[0])
        found.append(_Number(text[at : match.start()], match[0], value, match[0].isdigit() or value >= 10))
        at = match.end()
    return found, text[at:]


def _beside_figures(numbers: list[_Number]) -> None:
    """Small ones are written in figures in a sum, and in a list or a choice with others that are."""
    for way in (1, -1):
        for at in range(len(numbers))[::way]:
            if 0 <= at - way < len(numbers):
                one, other = numbers[at], numbers[at - way]
                between = (one if way == 1 else other).before
                if _SIGN.fullmatch(between) or (other.figures and _BESIDE.fullmatch(between)):
                    one.figures = True


def _listed(numbers: list[_Number], at: int) -> bool:
    """Whether three and more follow each other, of which words were heard: a list whose commas nobody said."""
    run = [at - 1, at]
    while run[0] and numbers[run[0]].before == " ":
        run.insert(0, run[0] - 1)
    while run[-1] + 1 < len(numbers) and numbers[run[-1] + 1].before == " ":
        run.append(run[-1] + 1)
    return len(run) > 2 and not all(numbers[one].said.isdigit() for one in run)


def _value(number: str) -> int:
    if number.isdigit():
        return int(number)
    hundreds, _, rest = re.sub(r"[- ]+", " ", number.lower()).rpartition(" hundred")
    if hundreds:
        return 100 * (1 if hundreds == "a" else ONES.index(hundreds)) + _value_of_words(rest)
    return _value_of_words(rest)


def _value_of_words(words: str) -> int:
    return sum(TENS[word] if word in TENS else ONES.index(word) for word in words.split() if word != "and")
