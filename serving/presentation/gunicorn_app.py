"""The server behind `lifecycle serve`: gunicorn with threads, embedded, so that one command is enough.

Exactly one worker, because one engine batches everybody's requests; many threads, because every stream holds one.
The models are loaded in the worker, never before the fork: neither the engine's thread nor torch's would survive it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import ThreadWorker

from lifecycle.errors import LifecycleError
from serving.application.access import Keys
from serving.application.canary import Canary
from serving.application.feedback import FeedbackStore
from serving.application.media import OpenMedia
from serving.application.ports import ModelCatalog
from serving.application.timing import HttpTiming
from serving.application.voice import Voice
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig, ServerState

THREADS = 512  # more than the engine admits and queues by default, so that a surplus client is told 429 at once
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
CLOSING_SECONDS = 10  # between the end of draining and the kill


class DrainingWorker(ThreadWorker):
    """On SIGTERM: refuse connections and requests, let the answers in flight finish, then leave."""

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:  # gunicorn would keep the port open until the last answer, and new clients would hang
            for listener in self.sockets:
                listener.close()

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.alive and (state := server_state(self)):
            threading.Thread(target=_drain, args=(state,), name="drain", daemon=True).start()
        super().handle_exit(sig, frame)


class Server(BaseApplication):
    """Gunicorn configured in code; reads no file, no argument, no environment variable."""

    def __init__(
        self,
        build: Callable[[], ModelCatalog],
        listener: socket.socket,
        http: HttpConfig,
        on_ready: Callable[[], None],
        keys: Sequence[Keys] = (),
        feedback: FeedbackStore | None = None,
        media: OpenMedia | None = None,
        voice: Voice | None = None,
        canary: Canary | None = None,
        trace: Callable[[HttpTiming], None] | None = None,
    ) -> None:
        self._build = build
        self._listener = listener
        self._http = http
        self._on_ready = on_ready
        self._keys = keys
        self._feedback = feedback
        self._media = media
        self._voice = voice
        self._canary = canary
        self._trace = trace
        self._failure = os.pipe()  # the worker's last words to this process
        super().__init__()

    def load_config(self) -> None:
        settings = {
            "bind": f"fd://{self._listener.detach()}",
            "worker_class": DrainingWorker,
            "workers": 1,
            "threads": THREADS,
            "worker_connections": 2 * THREADS,
            "timeout": 0,  # loading a model takes as long as it takes; /health tells about a stuck engine
            "graceful_timeout": int(self._http.drain_seconds) + CLOSING_SECONDS,
            "keepalive": 30,
            "loglevel": "warning",
            "control_socket_disable": True,
            "post_fork": lambda arbiter, worker: _leave_with_parent(),
            "post_worker_init": lambda worker: self._on_ready(),
            "worker_int": _close,
            "worker_exit": lambda arbiter, worker: _close(worker),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker."""
        try:
            return create_app(
                self._build(), self._http, keys=self._keys, feedback=self._feedback, media=self._media, voice=self._voice,
                canary=self._canary, trace=self._trace,
            )
        except LifecycleError as error:
            os.write(self._failure[1], str(error).encode())
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from None

    def run(self) -> None:
        """Serve until a signal. Raises LifecycleError when the models could not be loaded, else SystemExit."""
        master = os.getpid()
        try:
            super().run()
        except SystemExit:
            if os.getpid() == master and (reason := self._last_words()):
                raise LifecycleError(reason) from None
            raise  # the worker comes by here too, and gunicorn wants to see its exit status

    def _last_words(self) -> str:
        os.set_blocking(self._failure[0], False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self._failure[0], 2**16).decode()
        return ""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises LifecycleError with what to type when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise LifecycleError(
                f"port {port} on {host} is in use by another program: choose another one, for example --port {port + 1}"
            ) from None
        if error.errno == errno.EACCES:
            raise LifecycleError(
                f"port {port} is reserved for the system: choose one above 1023, for example --port 8000"
            ) from None
        raise LifecycleError(f"cannot listen on {host}: {error.strerror or error}. Try --host 127.0.0.1") from None
    except OverflowError:
        raise LifecycleError(f"there is no port {port}: choose one from 0 (any free one) to 65535") from None


def serve_forever(
    build: Callable[[], ModelCatalog],
    listener: socket.socket,
    http: HttpConfig,
    on_ready: Callable[[], None] = lambda: None,
    *,
    keys: Sequence[Keys] = (),
    feedback: FeedbackStore | None = None,
    media: OpenMedia | None = None,
    voice: Voice | None = None,
    canary: Canary | None = None,
    trace: Callable[[HttpTiming], None] | None = None,
) -> None:
    """Serve what `build` loads (in the worker process) until SIGTERM or Ctrl-C; then raises SystemExit(0)."""
    Server(build, listener, http, on_ready, keys, feedback, media, voice, canary, trace).run()


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def server_state(worker: ThreadWorker) -> ServerState | None:
    """The state of a worker's app, or None while it is still loading."""
    app = getattr(worker, "wsgi", None)
    return app.extensions["serving"] if isinstance(app, Flask) else None


def _leave_with_parent() -> None:
    """A worker whose parent is killed drains as on SIGTERM and gives the port back at once. Linux; elsewhere it notices by itself."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _drain(state: ServerState) -> None:
    if not state.drain():
        state.close()  # time is up: the rest gets an error event instead of a cut connection


def _close(worker: ThreadWorker) -> None:
    if state := server_state(worker):
        state.close()
