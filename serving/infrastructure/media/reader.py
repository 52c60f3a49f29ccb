"""The whole way from the addresses in a request to decoded media, within the limits."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Sequence

from serving.application.media import MediaSource
from serving.application.waiting import place_of
from serving.domain.errors import InvalidRequest, MediaTooLarge, VisionMissing
from serving.domain.media import Media
from serving.infrastructure.media.data_url import read_data_url
from serving.infrastructure.media.fetch import fetch
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.workers import WORKERS

PATIENCE = 30.0
"""Seconds that a request waits for others to be decoded."""


class MediaReader:
    """An `OpenMedia`. One for the whole server: what is decoded at the same time is counted here."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.media_decodes)

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
        with place_of(self._places, PATIENCE, "too many pictures and clips are being decoded: send the request again later"):
            return WORKERS.decode(source.kind, source.coarse, data, self._limits)
