"""Sound without the silence around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.application.speech import Audio

WINDOW = 0.02
QUIET = 10 ** (-55 / 20)
"""Level below which a window is silent, 1 being as loud as can be: -55 dB."""
MARGIN = 0.1
"""Seconds that are kept around what is not silent, unless somebody wants more or less."""


def levels(samples: Any, size: int) -> Any:
    """Root mean square of each `size` samples."""
    whole = np.asarray(samples[: len(samples) // size * size], np.float32).reshape(-1, size)
    return np.sqrt((whole**2).mean(1))


def trimmed(audio: Audio, before: float = MARGIN, after: float = MARGIN) -> tuple[Any, float]:
    """(samples, seconds that were cut off before them); no samples when all of it is silent.

    `before` and `after`: seconds that are kept around what is not silent.
    """
    size = max(1, int(WINDOW * audio.rate))
    loud = np.flatnonzero(levels(audio.samples, size) > QUIET)
    if not len(loud):
        return audio.samples[:0], 0.0
    first = max(0, int(loud[0]) * size - int(before * audio.rate))
    last = (int(loud[-1]) + 1) * size + int(after * audio.rate)
    return audio.samples[first:last], first / audio.rate


LONGEST = 20.0
"""Seconds of sound that are heard at once."""
NOT_BEFORE = 8.0
"""Seconds of a piece before which it is not cut."""


def pieces(audio: Audio, longest: float = LONGEST) -> Iterator[tuple[float, Audio]]:
    """(where it begins in seconds, sound) of pieces of at most `longest`, each cut where it is quietest."""
    at, rate, size = 0, audio.rate, max(1, int(WINDOW * audio.rate))
    while (len(audio.samples) - at) / rate > longest:
        first = at + int(min(NOT_BEFORE, longest / 2) * rate)
        quiet = np.convolve(levels(audio.samples[first : at + int(longest * rate)], size), np.ones(5), "same")
        cut = first + int(quiet.argmin()) * size + size // 2
        yield at / rate, Audio(audio.samples[at:cut], rate)
        at = cut
    if at < len(audio.samples):
        yield at / rate, Audio(audio.samples[at:], rate)
