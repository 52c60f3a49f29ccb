"""Evenly spaced frames of a clip whose length nobody knows before its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from serving.domain.errors import InvalidRequest, MediaTooLarge
from serving.infrastructure.media.limits import MediaLimits


class Deadline:
    """Raises `InvalidRequest` when asked after `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self._end:
            raise InvalidRequest(f"takes more than {self._seconds:g} seconds to decode: send a shorter or smaller one")


class EvenFrames:
    """Takes frames in order and keeps at most `2 * media_frames`: those at multiples of a stride that doubles.

    Which ones are kept depends on their number alone, so a clip gives the same frames whatever its format.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._deadline = Deadline(limits.media_decode_seconds)
        self._stride = 1
        self._kept: list[tuple[float, Any]] = []
        self.seen = 0

    def offer(self, seconds: float, frame: Callable[[], Any]) -> None:
        """The next frame, shown at `seconds` from the beginning. Raises `MediaTooLarge` when the clip is too long."""
        self._deadline.check()
        if seconds > self._limits.media_seconds:
            raise MediaTooLarge(f"is longer than {self._limits.media_seconds:g} seconds")
        if self.seen % self._stride == 0:
            if len(self._kept) == 2 * self._limits.media_frames:
                del self._kept[1::2]
                self._stride *= 2
            if self.seen % self._stride == 0:
                self._kept.append((seconds, frame()))
        self.seen += 1

    def chosen(self) -> tuple[tuple[Any, ...], tuple[float, ...]]:
        """(frames, their times), the first frame always. Raises `InvalidRequest` when there was none."""
        if not self._kept:
            raise InvalidRequest("has no frames")
        count = min(len(self._kept), self._limits.media_frames)
        last = len(self._kept) - 1
        places = [round(at * last / (count - 1)) for at in range(count)] if count > 1 else [0]
        times, frames = zip(*(self._kept[place] for place in places), strict=True)
        return frames, times
