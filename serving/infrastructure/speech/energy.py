"""Voice activity from loudness alone, which needs no model: whatever is clearly louder than the room counts as speech."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.infrastructure.speech.silence import levels

RATE, WINDOW = 16000, 512
LOUDER = 3.0
"""Times as loud as the room, at which the probability is one half."""
FLOOR = 10 ** (-50 / 20)
"""The quietest room, and how loud it is believed to be before anything was heard."""
RISE, FALL = 1.01, 0.5
"""How fast the estimate of the room follows a louder and a quieter window."""


class Energy:
    """A `VoiceActivity`."""

    name = "energy"
    rate = RATE
    window = WINDOW

    def stream(self) -> EnergyStream:
        """As `VoiceActivity`."""
        return EnergyStream()


class EnergyStream:
    """A `VoiceStream`."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """As `VoiceStream`."""
        self._room = FLOOR
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Any) -> list[float]:
        """As `VoiceStream`."""
        heard = np.concatenate([self._rest, np.asarray(samples, np.float32)])
        self._rest = heard[len(heard) // WINDOW * WINDOW :]
        return [self._probability(float(level)) for level in levels(heard, WINDOW)]

    def _probability(self, level: float) -> float:
        self._room = max(FLOOR, min(self._room * RISE, level) if level > self._room else level + (self._room - level) * FALL)
        times = level / self._room
        return times**4 / (times**4 + LOUDER**4)
