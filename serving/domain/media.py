"""A picture or a clip that somebody sent, decoded: the same whatever the format it came in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Media:
    """What a media part of a message shows.

    `digest` names the content: equal digests are equal frames at equal times. `frames` are uint8 RGB arrays
    [height, width, 3], one for an image. `times` are the seconds at which the frames are shown, from the clip's beginning.
    """

    kind: Literal["image", "video"]
    digest: str
    frames: tuple[Any, ...]
    times: tuple[float, ...] = (0.0,)
