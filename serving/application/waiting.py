"""A place that several want: for as long as somebody is willing to wait for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from serving.domain.errors import QueueFull


@contextmanager
def place_of(places: threading.Lock | threading.Semaphore, seconds: float, otherwise: str) -> Iterator[None]:
    """One of the places, once it is free. Raises `QueueFull`, which says `otherwise`, after so many seconds without one."""
    if not places.acquire(timeout=seconds):
        raise QueueFull(otherwise)
    try:
        yield
    finally:
        places.release()
