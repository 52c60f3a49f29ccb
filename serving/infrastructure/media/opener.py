"""From the bytes of a file to sound, decoded by the processes that decode pictures, too."""

from __future__ import annotations

import threading

import numpy as np

from serving.application.speech import Audio
from serving.application.waiting import place_of
from serving.domain.errors import InvalidRequest, MediaTooLarge
from serving.infrastructure.media.formats import SOUND_RATE
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.workers import WORKERS
from serving.infrastructure.speech.checks import require

PATIENCE = 30.0
"""Seconds that a request waits for others to be decoded."""


class SoundOpener:
    """An `OpenSound`. One for the whole server: what is decoded at the same time is counted here."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._places = threading.BoundedSemaphore(limits.media_decodes)

    def __call__(self, data: bytes, param: str) -> Audio:
        try:
            return self._opened(data)
        except InvalidRequest as error:
            raise type(error)(f'"{param}" {error.message}', param=param) from None

    def _opened(self, data: bytes) -> Audio:
        require("av")
        if not data:
            raise InvalidRequest("is empty")
        if len(data) > self._limits.audio_bytes:
            raise MediaTooLarge(f"has {len(data)} bytes: at most {self._limits.audio_bytes} are taken, so send it in parts")
        with place_of(self._places, PATIENCE, "too many sounds are being decoded: send the request again later"):
            media = WORKERS.decode("audio", False, data, self._limits)
        samples = media.frames[0].reshape(-1).view("<i2")
        return Audio(samples.astype(np.float32) / 32768, SOUND_RATE)
