"""The whole way from the addresses in a request to decoded media, within the limits."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.application.media import MediaSource
from serving.domain.errors import (
    InvalidRequest,
    MediaTooLarge,
    QueueFull,
    ServingError,
    UnsupportedMedia,
    VisionMissing,
)
from serving.domain.media import Media
from serving.infrastructure.media.data_url import read_data_url
from serving.infrastructure.media.fetch import fetch
from serving.infrastructure.media.formats import ANIMATIONS, CLIPS, STILLS, format_of
from serving.infrastructure.media.limits import MediaLimits

log = logging.getLogger(__name__)

PATIENCE = 30.0
"""Seconds that a request waits for others to be decoded."""
COARSE = 4
"""Part of the pixels that "detail": "low" keeps: one of so many."""
CLIP = 4
"""Times the pixels of a picture that all frames of a clip have."""


class MediaReader:
    """An `OpenMedia`. One for the whole server: what is decoded at the same time is counted here."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.media_decodes)
        # Threads of their own: an allocator keeps memory for each thread that ever needed much.
        self._decoders = ThreadPoolExecutor(limits.media_decodes, thread_name_prefix="media")

    def __call__(self, sources: Sequence[MediaSource]) -> tuple[Media, ...]:
        limits = self._limits
        if any(importlib.util.find_spec(name) is None for name in ("PIL", "av")):
            raise VisionMissing("nothing that decodes pictures is installed here: pip install -e '.[vision]'")
        if len(sources) > limits.media_parts:
            raise MediaTooLarge(
                f"the request shows {len(sources)} pictures and clips: at most {limits.media_parts} are taken",
                param=sources[limits.media_parts].param,
            )
        left, media = limits.media_request_bytes, []
        for source in sources:
            try:
                data = self._bytes(source, min(left, limits.media_part_bytes))
                left -= len(data)
                media.append(self._decoded(source, data))
            except InvalidRequest as error:
                raise type(error)(f'"{source.param}" {error.message}', param=source.param) from None
        return tuple(media)

    def _bytes(self, source: MediaSource, most: int) -> bytes:
        scheme = source.url.partition(":")[0].lower()
        if scheme == "data":
            data = read_data_url(source.url, most)
        elif scheme in ("http", "https"):
            data = fetch(source.url, most, self._limits)
        else:
            raise InvalidRequest("must begin with data:, http: or https:")
        if not data:
            raise InvalidRequest("is empty")
        return data

    def _decoded(self, source: MediaSource, data: bytes) -> Media:
        if not self._places.acquire(timeout=PATIENCE):
            raise QueueFull("too many pictures and clips are being decoded: send the request again later")
        try:
            found = self._decoders.submit(_attempt, source, data, self._limits).result()
        finally:
            self._places.release()
        if isinstance(found, ServingError):
            raise found
        return found


def _attempt(source: MediaSource, data: bytes, limits: MediaLimits) -> Media | ServingError:
    """Media, or why there is none: an error that holds on to nothing of what was decoded."""
    try:
        frames, times = (_picture if source.kind == "image" else _clip)(data, format_of(data), source.coarse, limits)
        return Media(source.kind, _digest(source.kind, frames, times), frames, times)
    except ServingError as error:
        failed = error
    except MemoryError:
        failed = MediaTooLarge("takes more memory to decode than there is")
    except Exception as error:  # of every kind, as damaged files take decoders to unlikely places
        log.info("a %s could not be decoded: %r", source.kind, error)
        failed = InvalidRequest("cannot be decoded: it is damaged, or its end is missing")
    failed.__traceback__ = failed.__context__ = None
    return failed


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
