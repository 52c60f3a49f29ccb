"""Every request has an id, and as JSON lines a line that leads to the engine's."""

import json
import logging

import pytest
from scripted_engine import Catalog, scripted_model

from serving.presentation.app import create_app
from serving.presentation.logs import JsonLines, configure_logs

HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def lines():
    """What is logged as JSON from here on, parsed."""
    told, root = [], logging.getLogger()

    class Keep(logging.Handler):
        def emit(self, record):
            told.append(json.loads(self.format(record)))

    before, handler = root.handlers[:], Keep()
    levels = {name: logging.getLogger(name).level for name in ("", "serving", "lifecycle")}
    configure_logs("json")
    handler.setFormatter(root.handlers[0].formatter)
    root.addHandler(handler)
    yield told
    root.handlers[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def client():
    return create_app(Catalog(scripted_model("abcde"))).test_client()


@pytest.mark.parametrize("stream", [False, True])
def test_a_line_for_every_request_with_the_id_that_the_engine_knows(client, lines, stream):
    answer = client.post("/v1/chat/completions", json={**HELLO, "stream": stream}, headers={"X-Request-Id": "mine"})
    body = answer.text
    answer.close()
    (line,) = [line for line in lines if line["logger"] == "serving.requests"]
    assert answer.headers["X-Request-Id"] == line["request_id"] == "mine"
    assert line["answer"] in body and line["version"] == "parrot/1" and line["completion_tokens"] == 5
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/chat/completions", 200) and line["seconds"] >= 0


def test_mistakes_are_logged_too_and_a_strange_id_is_replaced(client, lines):
    answer = client.post("/v1/chat/completions", json={}, headers={"X-Request-Id": "two words"})
    assert answer.status_code == 400 and len(answer.headers["X-Request-Id"]) == 32
    assert [line["status"] for line in lines if line["logger"] == "serving.requests"] == [400]
    assert client.get("/nowhere").headers["X-Request-Id"]


def test_an_exception_stays_one_line():
    try:
        raise ValueError("two\nlines")
    except ValueError:
        import sys

        record = logging.LogRecord("serving", logging.ERROR, "", 0, "it %s", ("broke",), sys.exc_info())
    line = JsonLines().format(record)
    assert "\n" not in line and json.loads(line)["message"] == "it broke" and "ValueError: two" in json.loads(line)["exception"]
