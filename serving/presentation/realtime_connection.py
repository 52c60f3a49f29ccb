"""One WebSocket of /v1/realtime, which is one conversation.

Whatever a client sends is answered, with an error event if it has to be, and harms no
other conversation: messages, sound that waits, events that wait and threads are bounded, and one that hears or says nothing
for long is closed.
"""

from __future__ import annotations

import contextlib
import logging
import time
import uuid

from simple_websocket import ConnectionClosed

from serving.application.access import Caller
from serving.application.live.converse import Converse
from serving.application.voice import Voice
from serving.domain.errors import InvalidRequest, ServingError
from serving.presentation.outbox import Line, Outbox
from serving.presentation.realtime_commands import Commands
from serving.presentation.realtime_model import ConnectedModel
from serving.presentation.state import ServerState

MOST_UNREAD = 256
"""Messages that may wait to be read."""
LOOK_SECONDS = 0.25
"""How often a silent connection is looked after."""
JOIN_SECONDS = 10.0
GOING_AWAY, POLICY, BROKEN = 1001, 1008, 1011
"""Why a connection was closed (RFC 6455)."""

log = logging.getLogger(__name__)


class Connection:
    """One WebSocket from its beginning to its end, on the thread of its request."""

    def __init__(self, socket, state: ServerState, voice: Voice, caller: Caller, model: str | None) -> None:
        self._socket = socket
        self._state = state
        socket.sock = Line(socket.sock)
        self._outbox = Outbox(socket.send, socket.sock.cut)
        self._model = ConnectedModel(state, caller, model)
        session_id = f"sess_{uuid.uuid4().hex[:21]}"
        self._ends = time.monotonic() + state.config.realtime_seconds
        self._commands = Commands(self._outbox, voice, self._model, session_id, int(time.time() + state.config.realtime_seconds))
        self._converse = Converse(voice.engines, voice.cut, self._model, self._outbox, self._commands.settings)
        self._commands.converse = self._converse

    def run(self) -> None:
        """Until either side has had enough."""
        code, reason = BROKEN, "the server made a mistake; its log has the details"
        try:
            self._commands.greet()
            code, reason = self._serve()
        except ConnectionClosed:
            code = None
        except Exception:
            log.exception("a live conversation broke")
        finally:
            self._converse.close()
            if code is not None:
                self._outbox.flush(1.0)
            self._outbox.close()
            if code is not None:
                self._close(code, reason)
            self._socket.sock.end()
            if not self._converse.join(JOIN_SECONDS):
                log.warning("a live conversation has ended, but a thread of it still works")

    def _serve(self) -> tuple[int, str]:
        """Why the connection is to be closed. Raises `ConnectionClosed` when it has been."""
        idle_since = time.monotonic()
        while True:
            message = self._socket.receive(timeout=LOOK_SECONDS)
            now = time.monotonic()
            if message is not None:
                idle_since = now
                self._commands.handle(message)
            elif self._converse.busy:
                idle_since = now
            if (verdict := self._verdict(now, idle_since)) is not None:
                return verdict

    def _verdict(self, now: float, idle_since: float) -> tuple[int, str] | None:
        if not self._socket.connected:
            raise ConnectionClosed()
        if self._outbox.broken:
            return POLICY, "events are not taken"
        if len(self._socket.input_buffer) > MOST_UNREAD:
            return POLICY, "messages come faster than they are read"
        if self._state.draining.is_set() and not self._converse.busy:
            return GOING_AWAY, "the server is closing down"
        if now > self._ends:
            return self._told(InvalidRequest("the session has reached its longest duration", code="session_expired"))
        if now - idle_since > self._state.config.realtime_idle_seconds:
            return self._told(InvalidRequest("nothing was sent for too long", code="session_idle"))
        return None

    def _told(self, error: ServingError) -> tuple[int, str]:
        self._commands.refuse(error)
        return POLICY, error.code or ""

    def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            self._socket.close(code, reason)

