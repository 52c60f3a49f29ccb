"""How large a picture is, how large it may be, and how large it will be."""

from __future__ import annotations

import math

from serving.domain.errors import InvalidRequest, MediaTooLarge

MOST_ASPECT = 100
"""Times that a picture may be as long as it is wide, or as wide as it is long."""


def check_size(width: int, height: int, most: int) -> None:
    """Raises `MediaTooLarge` for more pixels than `most`, `InvalidRequest` for none and for a thread of a picture."""
    if width < 1 or height < 1:
        raise InvalidRequest("has no pixels")
    if width * height > most:
        raise MediaTooLarge(f"is {width} x {height} pixels: at most {most} are taken, so send a smaller copy")
    if max(width, height) > MOST_ASPECT * min(width, height):
        raise InvalidRequest(f"is {width} x {height} pixels: one side may be at most {MOST_ASPECT} times the other")


def reduced(width: int, height: int, most: int) -> tuple[int, int]:
    """The same shape with at most `most` pixels, never larger than it was."""
    if width * height <= most:
        return width, height
    scale = math.sqrt(most / (width * height))
    narrow = max(1, math.floor(min(width, height) * scale))
    long = max(1, min(math.floor(max(width, height) * scale), most // narrow))
    return (long, narrow) if width >= height else (narrow, long)
