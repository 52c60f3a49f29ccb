"""Who computes next, where several want to and it does not go faster at the same time: whoever needs it first."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Precedence:
    """Lets one at a time in, of those that wait the one with the earliest deadline. Safe from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int]] = []
        self._numbers = itertools.count()
        self._taken = False

    @contextmanager
    def turn(self, deadline: float) -> Iterator[None]:
        """A turn, once it has come; deadlines in seconds of any clock, but of one and the same."""
        with self._changed:
            place = (deadline, next(self._numbers))
            heapq.heappush(self._waiting, place)
            self._changed.wait_for(lambda: not self._taken and self._waiting[0] == place)
            heapq.heappop(self._waiting)
            self._taken = True
        try:
            yield
        finally:
            with self._changed:
                self._taken = False
                self._changed.notify_all()
