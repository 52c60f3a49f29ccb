"""What a request shows, before anybody has looked at it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from serving.domain.media import Media


@dataclass(frozen=True, slots=True)
class MediaSource:
    """Where a picture or a clip is to be had: `url` is a data: or http(s) address.

    `param` is the field of the request that says so, for errors. `coarse` asks for few pixels.
    """

    kind: Literal["image", "video"]
    url: str
    param: str
    coarse: bool = False


OpenMedia = Callable[[Sequence[MediaSource]], tuple[Media, ...]]
"""Fetch and decode all that one request shows, in its order, on the caller's thread.

Raises `InvalidRequest` and its kinds `MediaTooLarge` and `UnsupportedMedia`, each naming the field; `VisionMissing`, and
`QueueFull` while too many others are being decoded.
"""
