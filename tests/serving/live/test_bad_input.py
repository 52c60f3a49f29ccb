"""Clients of /v1/realtime that send garbage, too much, nothing, or vanish."""

from __future__ import annotations

import base64
import json
import threading
import time
from socket import SHUT_RDWR

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from serving.application.live import hearing
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from tests.serving.http.scripted_engine import Catalog, scripted_model

from .conftest import PATIENCE, talk_to
from .modem import RATE, tone

LOUD_SECOND = base64.b64encode((tone("x" * 17)[:RATE] * 32767).astype("<i2").tobytes()).decode()


@pytest.fixture
def model():
    return scripted_model("All is well.", (5,))


@pytest.fixture
def url(serve, model):
    return serve(Catalog(model))


def socket(url: str, **options):
    return connect(url.replace("http", "ws") + "/v1/realtime?model=parrot", max_size=None, **options)


def error_of(connection) -> dict:
    while (event := json.loads(connection.recv(PATIENCE)))["type"] != "error":
        pass
    return event["error"]


def append(audio: object) -> dict:
    return {"type": "input_audio_buffer.append", "audio": audio}


def update(**session: object) -> dict:
    return {"type": "session.update", "session": {"type": "realtime", **session}}


WRONG = [
    ("{", None, "invalid_json"),
    (b"\x00\xff", None, "invalid_json"),
    ("[" * 100_000, None, "invalid_json"),
    ("[" * 100 + "]" * 100, None, "invalid_json"),
    ('{"type": "conversation.item.retrieve", "item_id": "\\ud800"}', None, "invalid_json"),
    ('{"type": "session.update", "session": {"audio": {"output": {"speed": NaN}}}}', None, "invalid_json"),
    ("[]", "type", "unknown_event"),
    ({"type": "transcription_session.update"}, "type", "unknown_event"),
    (append("!!!"), "audio", "invalid_value"),
    (append(base64.b64encode(b"odd").decode()), "audio", "invalid_value"),
    (append(""), "audio", None),
    (append(7), "audio", None),
    ({"type": "input_audio_buffer.commit"}, None, "input_audio_buffer_commit_empty"),
    ({"type": "conversation.item.delete", "item_id": "x"}, "item_id", "item_not_found"),
    ({"type": "conversation.item.retrieve"}, "item_id", None),
    ({"type": "response.cancel"}, "response_id", "response_cancel_not_active"),
    (update(audio={"input": {"format": {"type": "audio/mp3"}}}), "session.audio.input.format.type", None),
    (update(audio={"input": {"turn_detection": {"type": "server_vad", "threshold": 7}}}), "session.audio.input.turn_detection.threshold", None),
    (update(audio={"output": {"voice": "nobody"}}), "session.audio.output.voice", None),
    (update(modalities=["text"]), "session.modalities", None),
    (update(output_modalities=["text", "audio"]), "session.output_modalities", None),
    (update(model="other"), "model", "model_not_found"),
    (update(tool_choice="required"), "session.tool_choice", None),
    ({"type": "response.create", "response": {"input": [{"type": "message", "role": "user", "content": []}]}}, "response.input[0].content", None),
]


def test_what_is_wrong_is_answered_by_an_error_that_names_it(url):
    with socket(url) as connection:
        for at, (event, param, code) in enumerate(WRONG):
            named = {"event_id": f"mine-{at}", **event} if isinstance(event, dict) else event
            connection.send(json.dumps(named) if isinstance(named, dict) else named)
            error = error_of(connection)
            assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error"), (event, error)
            assert error["event_id"] == (f"mine-{at}" if isinstance(event, dict) else None)
        connection.send(json.dumps(update(output_modalities=["text"])))
        assert json.loads(connection.recv(PATIENCE))["type"] == "session.updated", "and the conversation goes on"


def test_silence_noise_and_clipping_get_no_answer_and_do_no_harm(url):
    with talk_to(url) as talk:
        noise = np.random.default_rng(0).normal(0, 0.003, 3 * RATE)
        for sound in (np.zeros(3 * RATE), noise):
            talk.send(sound)
        talk.say("Well?")
        assert talk.heard(talk.answer()) == "All is well."
        assert talk.types().count("input_audio_buffer.speech_started") == 1


def test_sound_that_nobody_commits_stays_within_bounds(url, monkeypatch):
    monkeypatch.setattr(hearing, "BUFFER_SECONDS", 5.0)
    with socket(url) as connection:
        connection.send(json.dumps(update(audio={"input": {"turn_detection": None}})))
        for _ in range(8):
            connection.send(json.dumps(append(LOUD_SECOND)))
        assert error_of(connection)["code"] == "input_audio_buffer_full"
        connection.send(json.dumps({"type": "input_audio_buffer.clear"}))
        while (event := json.loads(connection.recv(PATIENCE)))["type"] != "input_audio_buffer.cleared":
            assert event["type"] in ("error", "session.updated")


def test_a_turn_that_never_ends_is_ended(serve, model, monkeypatch):
    monkeypatch.setattr(hearing, "TURN_SECONDS", 2.0)
    with talk_to(serve(Catalog(model))) as talk:
        talk.say("y" * 60)
        for _ in range(2):
            talk.until("input_audio_buffer.committed")
        talk.answer()


def test_a_message_that_is_too_large_closes_only_its_own_connection(url):
    with talk_to(url) as other, socket(url) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            connection.send("x" * (17 * 2**20))
            while True:
                connection.recv(PATIENCE)
        assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
        other.say("Well?")
        assert other.answer().status == "completed"


def test_there_are_only_so_many_conversations_and_a_place_is_free_again(serve, model):
    url = serve(Catalog(model), realtime_sessions=2)
    with socket(url), socket(url):
        with pytest.raises(InvalidStatus) as refused:
            socket(url)
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body)["error"]["code"] == "queue_full"
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            with socket(url) as connection:
                assert json.loads(connection.recv(PATIENCE))["type"] == "session.created"
            return
        except InvalidStatus:
            assert time.monotonic() < deadline


def test_whoever_vanishes_leaves_no_thread_and_no_request(url, model):
    model.engine.hang = True
    before = threading.active_count()
    for _ in range(3):
        with talk_to(url) as talk:
            talk.write("hi")
            talk.connection.response.create()
            talk.until("response.output_audio_transcript.delta")
            talk.connection._connection.socket.shutdown(SHUT_RDWR)
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before or len(model.engine.cancelled) < 3:
        assert time.monotonic() < deadline, [thread.name for thread in threading.enumerate()]
        time.sleep(0.05)


def test_whoever_says_nothing_is_shown_out(serve, model):
    with socket(serve(Catalog(model), realtime_idle_seconds=0.3)) as connection:
        assert error_of(connection)["code"] == "session_idle"
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(PATIENCE)
        assert closed.value.rcvd.code == 1008


def test_a_turn_whose_end_nobody_looks_for_any_more_keeps_no_place(serve, model):
    with socket(serve(Catalog(model), realtime_idle_seconds=1.0)) as connection:
        connection.send(json.dumps(append(LOUD_SECOND)))
        while json.loads(connection.recv(PATIENCE))["type"] != "input_audio_buffer.speech_started":
            pass
        connection.send(json.dumps(update(audio={"input": {"turn_detection": None}})))
        assert error_of(connection)["code"] == "session_idle"


def test_a_session_ends_some_day(serve, model):
    with socket(serve(Catalog(model), realtime_seconds=0.3)) as connection:
        assert error_of(connection)["code"] == "session_expired"


def test_an_unknown_model_is_refused_before_there_is_a_conversation(url):
    with pytest.raises(InvalidStatus) as refused:
        connect(url.replace("http", "ws") + "/v1/realtime?model=nobody")
    assert refused.value.response.status_code == 404


def test_a_page_sends_its_key_as_a_protocol(serve, model):
    url = serve(Catalog(model), api_key="secret")
    with pytest.raises(InvalidStatus) as refused:
        socket(url)
    assert refused.value.response.status_code == 401
    with socket(url, subprotocols=["realtime", "openai-insecure-api-key.secret"]) as connection:
        assert connection.subprotocol == "realtime"
        assert json.loads(connection.recv(PATIENCE))["type"] == "session.created"


def test_a_server_without_a_voice_says_what_to_install(model):
    with run_in_thread(create_app(Catalog(model))) as server:
        answer = httpx.get(server.url + "/v1/realtime")
        assert answer.status_code == 501 and "lifecycle voice setup" in answer.json()["error"]["message"]
