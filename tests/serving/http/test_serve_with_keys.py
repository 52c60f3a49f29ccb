"""`lifecycle serve --api-keys` as people run it: over real sockets, with clients that leave."""

from __future__ import annotations

import http.client
import json
import signal
import time
from contextlib import closing

import pytest
from test_gunicorn import HELLO, LONG, Running

from lifecycle.rlhf.pairs import read_file
from serving.domain.quota import Limits
from serving.infrastructure.api_keys import create_key, revoke_key

ORIGIN = "https://friend.example"
pytestmark = pytest.mark.slow


class Keyed(Running):
    """A server with a key file, and the keys to it."""

    def __init__(self, registry, folder) -> None:
        self.file = folder / "keys.jsonl"
        self.user, _ = create_key(self.file, "acme", limits=Limits(concurrent=1))
        self.admin, _ = create_key(self.file, "boss", admin=True)
        super().__init__(registry, "--api-keys", str(self.file), "--cors-origin", ORIGIN)

    def ask(self, key, method="GET", path="/v1/models", body=None, **headers):
        """Status, headers and body of an answer."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **headers}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    def stream(self):
        """A stream that has begun."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Authorization": f"Bearer {self.user}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps({**LONG, "stream": True}), headers)
        response = connection.getresponse()
        assert response.status == 200 and b"assistant" in response.readline()
        return connection, response


@pytest.fixture(scope="module")
def running(registry, tmp_path_factory):
    server = Keyed(registry, tmp_path_factory.mktemp("keys"))
    yield server
    server.stop(signal.SIGINT)
    errors = server.process.communicate()[1]
    assert "Traceback" not in errors, errors


def test_a_client_that_leaves_gives_its_place_back_within_a_second(running):
    connection, response = running.stream()
    status, headers, body = running.ask(running.user, "POST", "/v1/chat/completions", {"messages": HELLO})
    assert (status, json.loads(body)["error"]["code"]) == (429, "concurrency_limit_exceeded")
    response.close()
    connection.close()
    deadline = time.monotonic() + 1
    while status == 429 and time.monotonic() < deadline:
        short = {"messages": HELLO, "max_tokens": 1}
        status, headers, _ = running.ask(running.user, "POST", "/v1/chat/completions", short, Origin=ORIGIN)
    assert status == 200 and headers["Access-Control-Allow-Origin"] == ORIGIN


def test_an_admin_ends_a_stream(running):
    connection, response = running.stream()
    assert running.ask(running.user, "POST", "/admin/abort", {"all": True})[0] == 403
    status, _, body = running.ask(running.admin, "POST", "/admin/abort", {"all": True})
    assert status == 200 and len(json.loads(body)["aborted"]) == 1
    assert response.read().endswith(b'"code":"aborted"}}\n\ndata: [DONE]\n\n')
    connection.close()


def test_feedback_ends_up_in_the_registry_and_comes_out_as_pairs(running, registry, tmp_path):
    for question in ("one", "two"):
        body = {
            "kind": "comparison",
            "messages": [{"role": "user", "content": question}],
            "answers": ["good", "bad"],
            "chosen": 0,
            "models": ["tiny", "production"],
        }
        assert running.ask(running.user, "POST", "/v1/feedback", body)[0] == 201
    assert (registry.root / "feedback.sqlite").is_file()
    assert "feedback.sqlite" not in registry.names()
    assert running.ask(running.user, path="/v1/feedback/export")[0] == 403
    status, _, body = running.ask(running.admin, path="/v1/feedback/export")
    file = tmp_path / "pairs.jsonl"
    file.write_bytes(body)
    assert status == 200 and len(read_file(file)[0]) == 2


def test_a_revoked_key_is_refused_at_once_and_a_new_one_is_welcome(running):
    new, stored = create_key(running.file, "late")
    assert running.ask(new)[0] == 200
    revoke_key(running.file, stored.id)
    assert running.ask(new)[0] == 401
