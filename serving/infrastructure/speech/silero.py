"""Silero VAD through ONNX Runtime: the probability of speech in every 32 ms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.onnx import session

RATE, WINDOW, CONTEXT = 16000, 512, 64
"""Samples a second, in a window, and of the window before that the model is shown again."""


class Silero:
    """A `VoiceActivity`."""

    name = "silero"
    rate = RATE
    window = WINDOW

    def __init__(self, directory: Path | None = None) -> None:
        self._session = session(find("silero-vad.onnx", directory), threads=1)

    def stream(self) -> SileroStream:
        """As `VoiceActivity`."""
        return SileroStream(self._session)


class SileroStream:
    """A `VoiceStream`."""

    def __init__(self, model: Any) -> None:
        self._session = model
        self.reset()

    def reset(self) -> None:
        """As `VoiceStream`."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._rest = np.zeros(0, np.float32)

    def push(self, samples: Any) -> list[float]:
        """As `VoiceStream`."""
        heard = np.concatenate([self._rest, np.asarray(samples, np.float32)])
        count = len(heard) // WINDOW
        self._rest = heard[count * WINDOW :]
        return [self._probability(heard[at * WINDOW : (at + 1) * WINDOW]) for at in range(count)]

    def _probability(self, window: Any) -> float:
        inputs = {
            "input": np.concatenate([self._context, window])[None],
            "state": self._state,
            "sr": np.array(RATE, np.int64),
        }
        found, self._state = self._session.run(None, inputs)
        self._context = window[-CONTEXT:]
        return float(found[0, 0])
