"""A server inside this process, for notebooks and tests. Commands use `gunicorn_app`."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from flask import Flask
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # streams are chunked, so a cut stream is noticed

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Quiet: a notebook is no access log."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A running server. `url` has no trailing slash. Also a context manager."""

    url: str
    _server: BaseWSGIServer
    _thread: threading.Thread

    def close(self) -> None:
        """Stop listening. The engines belong to whoever built them."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_in_thread(app: Flask, port: int = 0) -> LocalServer:
    """Serve an app on 127.0.0.1 from a background thread; port 0 takes a free one."""
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=_Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    return LocalServer(f"http://127.0.0.1:{server.server_port}", server, thread)
