"""What hearing and speaking cost, for Prometheus."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from serving.presentation.metrics import PREFIX, head

KINDS = ("heard", "spoken")
COUNTERS = {
    "audio_requests_total": "Sounds to write down, and texts to speak.",
    "audio_seconds_total": "Seconds of sound that were heard or spoken.",
    "audio_compute_seconds_total": "Time that it took, of waiting for others too.",
}


class VoiceMetrics:
    """Counters by kind, "heard" or "spoken". Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str]] = Counter()

    def begin(self, kind: str, seconds: float = 0.0) -> None:
        """One more request; of sound to hear its length is known."""
        with self._lock:
            self._counts["audio_requests_total", kind] += 1
        self.add(kind, seconds)

    def add(self, kind: str, seconds: float) -> None:
        """Sound that was spoken."""
        with self._lock:
            self._counts["audio_seconds_total", kind] += seconds

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Counts the time within."""
        start = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._counts["audio_compute_seconds_total", kind] += time.monotonic() - start

    def lines(self) -> Iterable[str]:
        """For the page that Prometheus scrapes."""
        with self._lock:
            counts = dict(self._counts)
        for name, text in COUNTERS.items():
            yield from head(PREFIX + name, "counter", text)
            for kind in KINDS:
                yield f'{PREFIX}{name}{{kind="{kind}"}} {counts.get((name, kind), 0):.15g}'
