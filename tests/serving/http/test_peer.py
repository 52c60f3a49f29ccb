"""Noticing that a client is gone, and telling a waiting one that the server is not."""

import socket
from urllib.parse import urlsplit

import pytest
from scripted_engine import Catalog, scripted_model

from serving.presentation import peer
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.peer import SILENCE_SECONDS, Peer
from serving.presentation.state import HttpConfig


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_silent_client_and_one_that_talks_ahead_are_there(pair):
    ours, theirs = pair
    client = Peer({"gunicorn.socket": ours})
    assert not client.gone()
    theirs.sendall(b"the next request")
    assert not client.gone()
    assert ours.recv(100) == b"the next request", "looking takes nothing away"


def test_a_client_that_hung_up_is_gone_even_if_it_left_bytes_behind(pair):
    ours, theirs = pair
    client = Peer({"werkzeug.socket": ours})
    theirs.sendall(b"unread")
    theirs.close()
    assert client.gone()


def test_a_closed_socket_is_gone_and_a_missing_one_is_not(pair):
    client = Peer({"gunicorn.socket": pair[0]})
    pair[0].close()
    assert client.gone()
    assert not Peer({}).gone()


def test_a_client_that_sends_and_takes_nothing_is_waited_for_no_longer(monkeypatch):
    monkeypatch.setattr(peer, "SILENCE_SECONDS", 0.2)
    model = scripted_model("hello")
    with run_in_thread(create_app(Catalog(model))) as server, socket.create_connection(("127.0.0.1", urlsplit(server.url).port)) as client:
        client.settimeout(10)
        client.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
        )
        assert client.recv(100).split()[1] == b"400"


@pytest.mark.parametrize("name", ["gunicorn.socket", "werkzeug.socket"])
def test_no_request_is_waited_for_longer_than_this(pair, name):
    create_app(Catalog(scripted_model("hello"))).test_client().get("/health", environ_overrides={name: pair[0]})
    assert pair[0].gettimeout() == SILENCE_SECONDS


def test_a_stream_without_news_sends_comments():
    model = scripted_model("")
    model.engine.hang = True
    app = create_app(Catalog(model), HttpConfig(tick_seconds=0.01, ping_seconds=0.02))
    body = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
    response = app.test_client().post("/v1/chat/completions", json=body)
    pieces = iter(response.response)
    assert b'"role":"assistant"' in next(pieces)
    assert [next(pieces), next(pieces)] == [b": ping\n\n"] * 2
    response.close()
    assert len(model.engine.cancelled) == 1
