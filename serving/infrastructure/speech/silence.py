"""Sound without the silence around it."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.application.speech import Audio

WINDOW = 0.02
QUIET = 10 ** (-55 / 20)
"""Level below which a window is silent, 1 being as loud as can be: -55 dB."""
MARGIN = 0.1
"""Seconds that are kept around what is not silent."""


def levels(samples: Any, size: int) -> Any:
    """Root mean square of each `size` samples."""
    whole = np.asarray(samples[: len(samples) // size * size], np.float32).reshape(-1, size)
    return np.sqrt((whole**2).mean(1))


def trimmed(audio: Audio) -> tuple[Any, float]:
    """(samples, seconds that were cut off before them); no samples when all of it is silent."""
    size = max(1, int(WINDOW * audio.rate))
    loud = np.flatnonzero(levels(audio.samples, size) > QUIET)
    if not len(loud):
        return audio.samples[:0], 0.0
    margin = int(MARGIN * audio.rate)
    first, last = max(0, int(loud[0]) * size - margin), (int(loud[-1]) + 1) * size + margin
    return audio.samples[first:last], first / audio.rate
