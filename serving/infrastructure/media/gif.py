"""The structure of a GIF file, without its pixels."""

from __future__ import annotations

from serving.domain.errors import InvalidRequest
from serving.infrastructure.media.sizes import check_size

EXTENSION, FRAME = 0x21, 0x2C


def check_frames(data: bytes, most: int) -> None:
    """Raises `MediaTooLarge` when canvas and frames together reach further than `most` pixels.

    A frame may lie anywhere and be larger than the canvas; a decoder grows its canvas to hold it.
    """
    try:
        width, height = _pair(data, 6)
        check_size(width, height, most)
        at = 13 + _colours(data[10])
        while at < len(data) and data[at] in (EXTENSION, FRAME):
            if data[at] == EXTENSION:
                at += 2
            else:
                left, top = _pair(data, at + 1)
                wide, high = _pair(data, at + 5)
                width, height = max(width, left + wide), max(height, top + high)
                check_size(width, height, most)
                at += 11 + _colours(data[at + 9])
            while data[at]:
                at += 1 + data[at]
            at += 1
    except IndexError:
        raise InvalidRequest("is damaged, or its end is missing") from None


def _pair(data: bytes, at: int) -> tuple[int, int]:
    if len(data) < at + 4:
        raise IndexError
    return int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 2 : at + 4], "little")


def _colours(flags: int) -> int:
    """Bytes of a colour table."""
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0
