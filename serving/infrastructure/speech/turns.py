"""When somebody's turn begins and ends: by silence alone, or by silence and whether the sentence sounds complete."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

OPEN_ENDED = re.compile(r"(?:\b(?:a|an|and|as|at|because|but|for|from|if|in|is|of|on|or|so|that|the|to|uh|um|with|your|my)|[,-])\W*$", re.I)
"""How a sentence ends that somebody means to go on with."""


@dataclass(slots=True)
class SilenceTurns:
    """A `TurnDetector`: a turn begins with `onset` seconds of speech and ends with `silence` seconds without.

    `threshold`: the probability from which a window is speech; once somebody speaks, a little less will do.
    """

    threshold: float = 0.5
    silence: float = 0.5
    onset: float = 0.06
    _speaking: bool = False
    _run: float = 0.0
    """Seconds of the other thing than what goes on now, without a break."""

    def push(self, probability: float, seconds: float) -> Literal["started", "stopped"] | None:
        """As `TurnDetector`."""
        speech = probability >= (self.threshold - 0.15 if self._speaking else self.threshold)
        if speech == self._speaking:
            self._run = 0.0
            return None
        self._run += seconds
        if self._run + 1e-9 < (self._patience() if self._speaking else self.onset):
            return None
        self._speaking, self._run = not self._speaking, 0.0
        return "started" if self._speaking else "stopped"

    def heard(self, text: str) -> None:
        """Does not matter here."""

    def reset(self) -> None:
        """As `TurnDetector`."""
        self._speaking, self._run = False, 0.0

    def _patience(self) -> float:
        return self.silence


@dataclass(slots=True)
class SentenceTurns(SilenceTurns):
    """The same, but waits `patience` times as long while what was understood is no complete sentence."""

    patience: float = 3.0
    _text: str = ""

    def heard(self, text: str) -> None:
        """As `TurnDetector`."""
        self._text = text.strip()

    def reset(self) -> None:
        """As `TurnDetector`."""
        SilenceTurns.reset(self)
        self._text = ""

    def _patience(self) -> float:
        complete = bool(self._text) and not OPEN_ENDED.search(self._text)
        return self.silence if complete else self.silence * self.patience
