"""When somebody who is listened to begins to speak, pauses and has ended: a state machine over probabilities of speech.

Nothing here hears anything: probabilities come in, one a window, and moments come out. A turn begins with `least_speech`
seconds of speech, so that a click is none, and ends with a silence whose length the rules and the words so far decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

HYSTERESIS = 0.15
"""Speech goes on at a probability so much lower than the one that it begins with."""
ENDED = re.compile(r"[.!?…][\"')\]]*\s*$")


@dataclass(frozen=True, slots=True)
class TurnRules:
    """How turns are taken; times in seconds. Raises ValueError for what cannot work."""

    threshold: float = 0.5
    """The probability that counts as speech."""
    silence: float = 0.5
    """So long nobody speaks before a turn is over."""
    unfinished: float = 0.5
    """The same while the words so far are no whole sentence."""
    padding: float = 0.3
    """So much of what came before the first speech belongs to it."""
    least_speech: float = 0.09
    """Less than that is a noise."""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError(f"threshold must be between 0 and 1, not {self.threshold}")
        if min(self.silence, self.unfinished, self.padding, self.least_speech) < 0:
            raise ValueError("the lengths of a turn's parts must not be negative")


EAGERNESS = {"low": (0.6, 2.0), "medium": (0.4, 1.2), "auto": (0.4, 1.2), "high": (0.25, 0.7)}
"""Of a turn detection that listens to the words: silence after a whole sentence, and after half of one."""


def by_words(eagerness: str) -> TurnRules:
    """Rules that wait longer for whoever stopped in the middle of a sentence."""
    whole, half = EAGERNESS[eagerness]
    return TurnRules(silence=whole, unfinished=half)


class TurnTaking:
    """For one microphone, on one thread. `silence` is for how many seconds nobody has spoken within the turn."""

    def __init__(self, rules: TurnRules) -> None:
        self.rules = rules
        self.reset()

    def reset(self) -> None:
        """Nobody is speaking."""
        self.speaking = False
        self.silence = 0.0
        self._run = 0.0  # seconds of speech in a row, before the turn has begun
        self._text = ""

    def heard(self, text: str) -> None:
        """What has been understood of the turn so far: whoever stopped in the middle of a sentence may go on."""
        self._text = text

    def push(self, probability: float, seconds: float) -> Literal["started", "stopped"] | None:
        """The probability of speech in the next window, which lasts `seconds`; whether a turn began or ended with it."""
        if not self.speaking:
            return self._wait(probability, seconds)
        if probability >= max(self.rules.threshold - HYSTERESIS, self.rules.threshold / 2):
            self.silence = 0.0
            return None
        self.silence += seconds
        if self.silence < self._patience() - 1e-9:
            return None
        self.reset()
        return "stopped"

    def _wait(self, probability: float, seconds: float) -> Literal["started"] | None:
        self._run = self._run + seconds if probability >= self.rules.threshold else 0.0
        if self._run < self.rules.least_speech or not self._run:
            return None
        self.speaking, self.silence, self._run = True, 0.0, 0.0
        return "started"

    def _patience(self) -> float:
        whole = not self._text or ENDED.search(self._text)
        return self.rules.silence if whole else max(self.rules.silence, self.rules.unfinished)
