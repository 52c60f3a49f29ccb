"""/v1/audio with the default voices, through the official client: what is spoken is written down again."""

from __future__ import annotations

import io
import json
import re
from functools import cache

import httpx
import openai
import pytest

from serving.application.speech import Segment
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.speech.encoding import wav_header
from serving.infrastructure.speech.voice import build_voice
from serving.presentation.app import create_app
from serving.presentation.audio import speech_events, transcript_events
from serving.presentation.subtitles import srt, stamp, vtt
from tests.serving.speech.serving import Catalog, scripted_model, speaking_server

SAID = "The cat is black. The answer is seven."


@pytest.fixture(scope="module")
def server():
    with speaking_server("It is four.") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def spoken(client):
    """What `SAID` sounds like, in a format."""

    @cache
    def speak(form: str) -> bytes:
        return client.audio.speech.create(model="tts-1", voice="af_heart", input=SAID, response_format=form).read()

    return speak


def plain(text: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", text.lower().replace("seven", "7"))


def test_what_is_spoken_is_written_down(client, spoken):
    heard = client.audio.transcriptions.create(model="whisper-1", file=("said.mp3", spoken("mp3")))
    assert plain(heard.text) == plain(SAID)


def test_every_form_of_a_transcript_says_the_same(client, spoken):
    def ask(form, **more):
        return client.audio.transcriptions.create(
            model="whisper-1", file=("a.mp3", spoken("mp3")), response_format=form, language="en", **more
        )

    whole = ask("verbose_json", timestamp_granularities=["segment"])
    assert whole.language == "english" and whole.task == "transcribe" and not whole.words
    assert [one.id for one in whole.segments] == list(range(len(whole.segments)))
    for one, after in zip(whole.segments, [*whole.segments[1:], None], strict=True):
        assert 0 <= one.start < one.end <= whole.duration + 0.01 and (after is None or one.end <= after.start + 0.3)
    assert " ".join(one.text for one in whole.segments) == whole.text == ask("text").strip() == ask("json").text
    assert ask("vtt").startswith("WEBVTT\n\n00:00:0") and " --> 00:00:0" in ask("srt")


def test_transcripts_stream_in_pieces_that_make_the_whole(client, spoken):
    events = list(client.audio.transcriptions.create(model="whisper-1", file=("a.mp3", spoken("mp3")), stream=True))
    assert [one.type for one in events[:-1]] == ["transcript.text.delta"] * (len(events) - 1)
    assert events[-1].type == "transcript.text.done"
    assert "".join(one.delta for one in events[:-1]) == events[-1].text and plain(events[-1].text) == plain(SAID)


def test_a_stream_that_breaks_unexpectedly_ends_with_an_error():
    def heard():
        yield [Segment("one", 0.0, 1.0)]
        raise RuntimeError("a mistake")

    def written():
        yield b"RIFF"
        raise RuntimeError("a mistake")

    for events in (transcript_events(heard(), 1.0), speech_events(written())):
        *_, last = events
        assert json.loads(last[6:])["error"]["type"] == "server_error"


def test_speech_streams_from_the_first_sentence(client):
    body = {"voice": "af_heart", "input": "Yes. No.", "response_format": "wav", "stream_format": "sse", "speed": 2}
    events = client.post("/audio/speech", body=body, cast_to=httpx.Response)
    kinds = [json.loads(line[6:])["type"] for line in events.text.splitlines() if line]
    assert kinds == ["speech.audio.delta"] * (len(kinds) - 1) + ["speech.audio.done"]
    assert len(kinds) == 4, "the head of the file, a piece for each sentence, the end"


def test_both_are_counted(client, server, spoken):
    spoken("mp3")
    page = httpx.get(server.url + "/metrics").text
    assert float(re.search(r'serving:audio_seconds_total{kind="spoken"} (\S+)', page)[1]) > 1


def post(server, path, **parts) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/audio/{path}", timeout=60, **parts)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": "docx"}, "response_format"),
        ({"language": "de"}, "language"),
        ({"temperature": "0.5"}, "temperature"),
        ({"prompt": "Umm"}, "prompt"),
        ({"stream": "perhaps"}, "stream"),
        ({"stream": "true", "response_format": "srt"}, "response_format"),
        ({"timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"timestamp_granularities[]": "word", "response_format": "verbose_json"}, "timestamp_granularities"),
        ({"langauge": "en"}, "langauge"),
        ({"language": ["en", "de"]}, "language"),
    ],
)
def test_fields_of_the_form_are_checked(server, spoken, fields, param):
    answer = post(server, "transcriptions", data=fields, files={"file": spoken("mp3")})
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_a_form_that_is_none_is_refused(server, spoken):
    assert post(server, "transcriptions", json={"file": "x"}).status_code == 415
    missing = post(server, "transcriptions", files={"sound": b"x"})
    assert missing.status_code == 400 and missing.json()["error"]["param"] == "file"
    broken = post(server, "transcriptions", content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert broken.status_code == 400
    nameless = b"--x\r\nContent-Disposition: form-data\r\n\r\nwhat\r\n--x--\r\n"
    unnamed = post(server, "transcriptions", content=nameless, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert unnamed.status_code == 400 and "name" in unnamed.json()["error"]["message"]
    other = post(server, "transcriptions", data={"model": "nobody"}, files={"file": spoken("mp3")})
    assert other.status_code == 404 and "moonshine tiny-en" in other.json()["error"]["message"]
    noise = post(server, "transcriptions", files={"file": b"no sound at all"})
    assert noise.status_code == 415 and noise.json()["error"]["param"] == "file"
    large = post(server, "transcriptions", files={"file": wav_header(16000) + bytes(33 * 2**20)})
    assert large.status_code == 413


def test_silence_says_nothing(server):
    silent = io.BytesIO(wav_header(8000, 32000) + bytes(32000))
    answer = post(server, "transcriptions", files={"file": silent}, data={"response_format": "verbose_json", "prompt": ""})
    assert answer.status_code == 200 and answer.json()["text"] == "" and answer.json()["segments"] == []


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": "..."}, 400, "input"),
        ({"input": "a" * 5000}, 400, "input"),
        ({"input": "Hi", "speed": 0.1}, 400, "speed"),
        ({"input": "Hi", "voice": "nobody"}, 400, "voice"),
        ({"input": "Hi", "instructions": "whisper"}, 400, "instructions"),
        ({"input": "Hi", "response_format": "midi"}, 400, "response_format"),
        ({"input": "Hi", "model": "gpt-7"}, 404, "model"),
        ({}, 400, "input"),
    ],
)
def test_what_cannot_be_spoken_is_refused(server, body, status, param):
    answer = post(server, "speech", json=body)
    assert answer.status_code == status and answer.json()["error"]["param"] == param, answer.text


def test_translation_is_refused_in_words(server):
    answer = post(server, "translations", files={"file": b"x"})
    assert answer.status_code == 501 and "/v1/audio/transcriptions" in answer.json()["error"]["message"]


@pytest.mark.parametrize("voice", [False, True])
def test_without_voices_the_command_to_type_is_named(tmp_path, voice):
    built = build_voice(ServingConfig(voice_dir=str(tmp_path))) if voice else None
    answer = create_app(Catalog(scripted_model("hi")), voice=built).test_client().post("/v1/audio/speech", json={"input": "Hi"})
    assert answer.status_code == 501 and answer.json["error"]["code"] == "speech_missing"
    assert not voice or "lifecycle voice setup" in answer.json["error"]["message"]


def test_subtitles():
    from serving.application.speech import Segment

    segments = [Segment("One --> two.\n\nThree", 0.0, 1.5), Segment("Four.", 3600.0, 3661.0015)]
    assert srt(segments) == "1\n00:00:00,000 --> 00:00:01,500\nOne -> two. Three\n\n2\n01:00:00,000 --> 01:01:01,002\nFour.\n"
    assert vtt(segments).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nOne -> two. Three\n\n01:00")
    assert stamp(59.9999, ".") == "00:01:00.000"
