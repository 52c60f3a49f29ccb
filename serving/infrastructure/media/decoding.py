"""From the bytes of a file to frames, or to the reason why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from serving.domain.errors import InvalidRequest, MediaTooLarge, UnsupportedMedia
from serving.domain.media import Media
from serving.infrastructure.media.formats import ANIMATIONS, CLIPS, STILLS, format_of
from serving.infrastructure.media.limits import MediaLimits

COARSE = 4
"""Part of the pixels that "detail": "low" keeps: one of so many."""
CLIP = 4
"""Times the pixels of a picture that all frames of a clip have."""


def decode(kind: str, coarse: bool, data: bytes, limits: MediaLimits) -> Media | InvalidRequest:
    """Media, or why there is none."""
    try:
        if kind == "audio":
            frames, times = _sound(data, limits)
        else:
            frames, times = (_picture if kind == "image" else _clip)(data, format_of(data), coarse, limits)
        return Media(kind, _digest(kind, frames, times), frames, times)
    except InvalidRequest as error:
        return error
    except MemoryError:
        return MediaTooLarge("takes more memory to decode than it may")
    except Exception:  # of every kind, as damaged files take decoders to unlikely places
        return InvalidRequest("cannot be decoded: it is damaged, or its end is missing")


def _sound(data: bytes, limits: MediaLimits) -> tuple[Any, tuple[float, ...]]:
    from serving.infrastructure.media.sounds import read_sound

    return (read_sound(data, limits),), (0.0,)


def _picture(data: bytes, name: str, coarse: bool, limits: MediaLimits) -> tuple[Any, tuple[float, ...]]:
    if name not in STILLS:
        raise UnsupportedMedia(f'is a clip ({name}), not a picture: send it as a part of the type "video_url"')
    from serving.infrastructure.media.stills import read_still

    most = limits.media_kept_pixels // (COARSE if coarse else 1)
    return (read_still(data, name, most, limits),), (0.0,)


def _clip(data: bytes, name: str, coarse: bool, limits: MediaLimits) -> tuple[Any, tuple[float, ...]]:
    most = max(1, CLIP * limits.media_kept_pixels // limits.media_frames // (COARSE if coarse else 1))
    most = min(most, limits.media_kept_pixels)
    if name in CLIPS:
        from serving.infrastructure.media.clips import read_clip

        return read_clip(data, name, most, limits).chosen()
    if name in ANIMATIONS:
        from serving.infrastructure.media.stills import read_animation

        return read_animation(data, name, most, limits).chosen()
    raise UnsupportedMedia(f'is a picture ({name}), not a clip: send it as a part of the type "image_url"')


def _digest(kind: str, frames: Sequence[Any], times: Sequence[float]) -> str:
    content = hashlib.sha256(f"{kind} {times} {[frame.shape for frame in frames]}".encode())
    for frame in frames:
        content.update(frame)
    return content.hexdigest()
