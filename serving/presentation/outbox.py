"""Events on their way to a client that may be slow, or gone: a bounded queue and the thread that empties it."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from serving.application.live.events import Called, LiveEvent, Sounded
from serving.presentation.realtime_json import BEFORE, to_json

MOST_BYTES = 16 * 2**20
"""That wait; whoever takes less is cut off."""

log = logging.getLogger(__name__)


class Line:
    """A socket on which two threads write, each of them whole frames."""

    def __init__(self, raw: socket.socket) -> None:
        self._raw = raw
        self._lock = threading.Lock()
        raw.settimeout(None)  # or a frame might leave in part

    def send(self, data: bytes) -> int:
        """All of it."""
        with self._lock:
            self._raw.sendall(data)
        return len(data)

    def cut(self) -> None:
        """Whoever waits on it fails."""
        with contextlib.suppress(OSError):  # it was down already
            self._raw.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Nothing follows; the other end may still be read."""
        with contextlib.suppress(OSError):
            self._raw.shutdown(socket.SHUT_WR)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


class Outbox:
    """The `EventSink` of one connection. `broken`: the client takes nothing, or has gone."""

    def __init__(self, send: Callable[[str], None], cut: Callable[[], None]) -> None:
        self._send = send
        self._cut = cut
        self._waiting: deque[tuple[str | None, str]] = deque()  # of which answer's sound it is, and the event
        self._bytes = 0
        self._sending = False
        self._closed = False
        self._changed = threading.Condition()
        self.broken = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def tell(self, event: LiveEvent) -> None:
        """As `EventSink`."""
        events = BEFORE[type(event)](event) if type(event) in BEFORE else []
        if not isinstance(event, Called):
            events.append(to_json(event))
        for one in events:
            self.put(one, event.answer_id if isinstance(event, Sounded) else None)

    def put(self, event: dict[str, Any], sound_of: str | None = None) -> None:
        """An event as the protocol has it."""
        text = json.dumps(event, separators=(",", ":"))
        with self._changed:
            if self._closed or self.broken:
                return
            if self._bytes + len(text) > MOST_BYTES:
                self.broken = True
                self._waiting.clear()
                self._cut()
                return
            self._waiting.append((sound_of, text))
            self._bytes += len(text)
            self._changed.notify_all()

    def purge(self, answer_id: str) -> None:
        """As `EventSink`."""
        with self._changed:
            self._waiting = deque(one for one in self._waiting if one[0] != answer_id)
            self._bytes = sum(len(text) for _, text in self._waiting)

    def backlog(self) -> int:
        """As `EventSink`."""
        return self._bytes

    def flush(self, timeout: float) -> bool:
        """Wait until all has left; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self.broken or (not self._waiting and not self._sending), timeout)

    def close(self) -> None:
        """Nothing leaves any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            if self._sending:
                self._cut()
            self._changed.notify_all()
        self._thread.join(5)

    def _run(self) -> None:
        while (text := self._next()) is not None:
            try:
                self._send(text)
            except Exception as error:  # whatever a dead connection raises
                log.debug("a client has gone: %s", error)
                self.broken = True
            with self._changed:
                self._sending = False
                self._changed.notify_all()

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed or self.broken)
            if self._closed or self.broken:
                return None
            _, text = self._waiting.popleft()
            self._bytes -= len(text)
            self._sending = True
            return text
