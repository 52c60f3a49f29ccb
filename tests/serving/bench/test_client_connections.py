"""The HTTP client against a server that does as it likes with connections and fields."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serving.bench.client import Server, drive
from serving.bench.workload import Job

USAGE = {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 2}}


class Closing(BaseHTTPRequestHandler):
    """Promises to keep the connection, and closes it."""

    protocol_version = "HTTP/1.1"
    bodies: list[dict] = []

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        said = f"data: {json.dumps({'choices': [{'text': 'a'}]})}\n\ndata: {json.dumps(USAGE)}\n\ndata: [DONE]\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quietly."""


@pytest.fixture
def url():
    Closing.bodies = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Closing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_connection_that_was_closed_in_between_is_made_anew(url: str) -> None:
    exchanges = drive(Server(url), [Job(number, 0.0, 4, 2) for number in range(3)], max_concurrency=1)
    assert [exchange.error for exchange in exchanges] == [None] * 3
    assert all(exchange.ended >= exchange.pieces[-1] >= exchange.sent for exchange in exchanges)


def test_a_server_gets_the_fields_that_it_wants(url: str) -> None:
    drive(Server(url, fields={"ignore_eos": True, "min_tokens": 0}), [Job(0, 0.0, 4, 2)], max_concurrency=1)
    (body,) = Closing.bodies
    assert (body["ignore_eos"], body["min_tokens"], body["max_tokens"]) == (True, 0, 2)
