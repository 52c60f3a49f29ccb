"""A thread that works off a queue."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Job = TypeVar("Job")
POLL_SECONDS = 0.25

log = logging.getLogger(__name__)


class Stage(Generic[Job]):
    """One thread, one bounded queue. What `work` raises goes to `fail`; the thread goes on. It ends soon after `close`."""

    def __init__(self, name: str, work: Callable[[Job], None], fail: Callable[[Job, Exception], None], size: int) -> None:
        self._work = work
        self._fail = fail
        self._queue: queue.Queue[Job] = queue.Queue(size)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, job: Job, patience: Callable[[], bool] = lambda: False) -> bool:
        """Queue a job; while there is no room wait as long as there is `patience`. Whether it was queued."""
        while not self._closed.is_set():
            try:
                self._queue.put(job, timeout=0.05)
            except queue.Full:
                if not patience():
                    return False
            else:
                return True
        return False

    def closed(self, timeout: float) -> bool:
        """Whether `close` was called; waits up to `timeout` seconds for it."""
        return self._closed.wait(timeout)

    def close(self) -> None:
        """Take no more jobs; those in the queue are dropped."""
        self._closed.set()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end, unless this is it; whether it has."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                job = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            try:
                self._work(job)
            except Exception as error:
                try:
                    self._fail(job, error)
                except Exception:
                    log.exception("a stage of a live conversation broke")
