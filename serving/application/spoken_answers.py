"""What answers said aloud: clients go on from one by its id, as sending the sound again would be long."""

from __future__ import annotations

import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable

KEPT = 1000
LIFETIME = 3600.0
"""Seconds; and how many answers, at most."""


class SpokenAnswers:
    """Transcripts by id, each for the tenant that it was made for. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said: OrderedDict[tuple[str, str], tuple[str, float]] = OrderedDict()

    @staticmethod
    def new_id() -> str:
        """For an answer that begins."""
        return f"audio_{uuid.uuid4().hex}"

    def keep(self, tenant: str, audio_id: str, transcript: str) -> int:
        """Until when, in Unix seconds."""
        until = self._clock() + LIFETIME
        with self._lock:
            self._said[tenant, audio_id] = transcript, until
            while len(self._said) > KEPT:
                self._said.popitem(last=False)
        return int(until)

    def get(self, tenant: str, audio_id: str) -> str | None:
        """None when there is none, or no longer."""
        with self._lock:
            transcript, until = self._said.get((tenant, audio_id), ("", 0.0))
        return transcript if self._clock() < until else None
