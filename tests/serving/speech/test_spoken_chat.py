"""Chats in speech, through the official client: a question is heard, its answer is spoken, and the conversation goes on."""

from __future__ import annotations

import base64
import io
import wave

import numpy as np
import openai
import pytest

from serving.application.spoken_answers import KEPT, LIFETIME, SpokenAnswers
from serving.infrastructure.speech.encoding import pcm16, wav_header
from tests.serving.speech.serving import speaking_server

ANSWER = "It is four. Yes."
ALOUD = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}


@pytest.fixture(scope="module")
def asked():
    """What the engine was asked, one text a request."""
    return []


@pytest.fixture(scope="module")
def client(asked):
    def answer(request):
        asked.append(bytes(token for token in request.prompt_tokens if token < 256).decode())
        return f"<think>Two and two.</think>{ANSWER}" if "Think!" in asked[-1] else ANSWER

    with (
        speaking_server(answer) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=120) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def question(kokoro):
    """As a part of a message."""
    chunk = next(kokoro.speak("What is two plus two?"))
    data = pcm16(chunk.audio.samples)
    return sound(wav_header(chunk.audio.rate, len(data)) + data)


def sound(data: bytes, form: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": form}}


def chat(client, *parts, **fields):
    return client.chat.completions.create(model="parrot", messages=[{"role": "user", "content": list(parts)}], **fields)


def test_a_model_that_reads_is_told_what_was_said(client, asked, question):
    answer = chat(client, {"type": "text", "text": "Listen: "}, question)
    assert answer.choices[0].message.content == ANSWER and answer.choices[0].message.audio is None
    assert "Listen: What is two plus two?" in asked[-1] or "Listen: What is 2 + 2?" in asked[-1]


def test_an_answer_is_spoken_and_gone_on_from_by_its_id(client, asked):
    message = chat(client, {"type": "text", "text": "2 + 2?"}, **ALOUD).choices[0].message
    assert message.content is None and message.audio.transcript == ANSWER
    with wave.open(io.BytesIO(base64.b64decode(message.audio.data))) as file:
        assert file.getframerate() == 24000 and 0.5 < file.getnframes() / 24000 < 8
    before = {"role": "assistant", "audio": {"id": message.audio.id}}
    client.chat.completions.create(model="parrot", messages=[before, {"role": "user", "content": "Sure?"}])
    assert f"assistant: {ANSWER}" in asked[-1]
    with pytest.raises(openai.BadRequestError, match="is not known here"):
        client.with_options(default_headers={"Authorization": "Bearer another"}).chat.completions.create(
            model="parrot", messages=[before, {"role": "user", "content": "Sure?"}]
        )


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_thought_before_an_answer_is_not_said(client, stream):
    audio = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    given = chat(client, {"type": "text", "text": "Think! 2 + 2?"}, stream=stream, **audio)
    if stream:
        parts = [chunk.choices[0].delta.audio for chunk in given if chunk.choices and chunk.choices[0].delta.audio]
        assert "".join(one.transcript for one in parts if one.transcript) == ANSWER
    else:
        assert given.choices[0].message.audio.transcript == ANSWER


def test_a_streamed_answer_brings_its_words_then_its_sound_then_its_end(client):
    audio = {"modalities": ["text", "audio"], "audio": {"voice": "af_heart", "format": "pcm16"}}
    chunks = list(chat(client, {"type": "text", "text": "2 + 2?"}, stream=True, stream_options={"include_usage": True}, **audio))
    deltas = [chunk.choices[0].delta.audio for chunk in chunks if chunk.choices and chunk.choices[0].delta.audio]
    assert len({one.id for one in deltas}) == 1 and deltas[-1].expires_at
    assert "".join(one.transcript or "" for one in deltas) == ANSWER
    samples = np.frombuffer(b"".join(base64.b64decode(one.data) for one in deltas if one.data), "<i2")
    assert 0.5 < len(samples) / 24000 < 8 and np.abs(samples).max() > 3000
    assert sum(bool(one.data) for one in deltas) >= 2, "a piece for each sentence"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop" and chunks[-1].usage


@pytest.mark.parametrize(
    ("part", "status", "field", "words"),
    [
        (sound(b"nothing of the kind"), 415, "data", "none of the kinds of sound"),
        (sound(wav_header(16000, 32000) + bytes(32000)), 400, "data", "nobody speaks in"),
        (sound(wav_header(16000, 32000) + bytes(100)), 400, "data", "its end is missing"),
        ({"type": "input_audio", "input_audio": {"data": "@@@@", "format": "wav"}}, 400, "data", "is not base64"),
        ({"type": "input_audio", "input_audio": {"data": "aaaa", "format": "midi"}}, 400, "format", "must be"),
    ],
)
def test_what_is_no_speech_is_refused_with_its_place(client, asked, part, status, field, words):
    before = len(asked)
    with pytest.raises(openai.APIStatusError) as error:
        chat(client, {"type": "text", "text": "Listen."}, part)
    assert (error.value.status_code, error.value.param) == (status, f"messages[0].content[1].input_audio.{field}")
    assert words in error.value.message and len(asked) == before


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"audio": ALOUD["audio"]}, "audio"),
        ({**ALOUD, "n": 2}, "n"),
        ({**ALOUD, "stream": True}, "audio"),
        ({**ALOUD, "logprobs": True}, "logprobs"),
        ({**ALOUD, "audio": {"voice": "nobody", "format": "wav"}}, "audio.voice"),
        ({**ALOUD, "audio": {"voice": "alloy", "format": "midi"}}, "audio.format"),
        ({"modalities": ["smell"]}, "modalities[0]"),
    ],
)
def test_what_cannot_be_spoken_is_refused_before_it_is_asked(client, asked, fields, param):
    before = len(asked)
    with pytest.raises(openai.BadRequestError) as error:
        chat(client, {"type": "text", "text": "2 + 2?"}, **fields)
    assert error.value.param == param and len(asked) == before


def test_only_users_are_heard(client):
    with pytest.raises(openai.BadRequestError, match="only messages of users"):
        client.chat.completions.create(model="parrot", messages=[{"role": "system", "content": [sound(b"x")]}])


def test_spoken_answers_are_kept_for_their_tenant_and_not_for_ever():
    now = [0.0]
    answers = SpokenAnswers(lambda: now[0])
    ids = [answers.new_id() for _ in range(KEPT + 1)]
    for one in ids:
        assert answers.keep("me", one, f"said {one}") == LIFETIME
    assert answers.get("me", ids[0]) is None and answers.get("you", ids[1]) is None
    assert answers.get("me", ids[1]) == f"said {ids[1]}"
    now[0] = LIFETIME
    assert answers.get("me", ids[1]) is None
