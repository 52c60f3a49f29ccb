"""Is the client still there? WSGI does not say, so ask the socket."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from typing import Any

SILENCE_SECONDS = 30.0  # a client that sends and takes nothing for so long is gone
_HANG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


def limit_silence(environ: Mapping[str, Any]) -> None:
    """A client that sends or takes nothing for `SILENCE_SECONDS` holds a thread no longer: reading or writing fails."""
    if (found := _socket(environ)) is not None:
        found.settimeout(SILENCE_SECONDS)


def _socket(environ: Mapping[str, Any]) -> socket.socket | None:
    return environ.get("gunicorn.socket") or environ.get("werkzeug.socket")


class Peer:
    """The other end of one request, found where gunicorn and werkzeug leave the socket.

    A client that closes only its sending side counts as gone; HTTP clients do not do that.
    """

    def __init__(self, environ: Mapping[str, Any]) -> None:
        self._socket = _socket(environ)

    def gone(self) -> bool:
        """True when the client has hung up; never blocks. Without a socket (a test client) always False."""
        if self._socket is None:
            return False
        try:
            poll = select.poll()  # select() fails above file descriptor 1023
            poll.register(self._socket, select.POLLIN | getattr(select, "POLLRDHUP", 0))
            events = poll.poll(0)
            if not events:
                return False
            if events[0][1] & _HANG_UP:
                return True
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except (OSError, ValueError):
            return True
