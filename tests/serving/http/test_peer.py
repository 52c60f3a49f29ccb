"""Noticing that a client is gone, and telling a waiting one that the server is not."""

import socket

import pytest
from scripted_engine import Catalog, scripted_model

from serving.presentation.app import create_app
from serving.presentation.peer import SEND_SECONDS, Peer
from serving.presentation.state import HttpConfig


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_a_silent_client_and_one_that_talks_ahead_are_there(pair):
    ours, theirs = pair
    peer = Peer({"gunicorn.socket": ours})
    assert not peer.gone()
    theirs.sendall(b"the next request")
    assert not peer.gone()
    assert ours.recv(100) == b"the next request", "looking takes nothing away"


def test_a_client_that_hung_up_is_gone_even_if_it_left_bytes_behind(pair):
    ours, theirs = pair
    peer = Peer({"werkzeug.socket": ours})
    theirs.sendall(b"unread")
    theirs.close()
    assert peer.gone()


def test_a_closed_socket_is_gone_and_a_missing_one_is_not(pair):
    peer = Peer({"gunicorn.socket": pair[0]})
    pair[0].close()
    assert peer.gone()
    assert not Peer({}).gone()


def test_writing_to_a_client_that_takes_nothing_ends(pair):
    Peer({"gunicorn.socket": pair[0]})
    assert pair[0].gettimeout() == SEND_SECONDS


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
