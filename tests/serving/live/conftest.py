"""Servers that are talked to with the official client."""

from __future__ import annotations

import base64
import time
from contextlib import contextmanager

import numpy as np
import openai
import pytest

from serving.application.speech import Audio, SpeechEngines
from serving.application.voice import Voice
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.opener import SoundOpener
from serving.infrastructure.speech.encoding import write_sound
from serving.infrastructure.speech.silence import pieces
from serving.infrastructure.wire_formats import wire_formats
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

from .modem import RATE, modem_engines, tone, understood

FORMATS = wire_formats()
PATIENCE = 60.0
"""Seconds; a bound for what is broken, never waited out by what is sound."""
FRAME = 0.1
"""Seconds of sound in one event."""


def voice_of(engines: SpeechEngines) -> Voice:
    return Voice(engines, SoundOpener(MediaLimits()), write_sound, pieces, FORMATS)


class Talk:
    """One connection, and all events that came over it."""

    def __init__(self, connection, format: str = "audio/pcm") -> None:
        self.connection = connection
        self.format = FORMATS[format]
        self.events = []

    def next(self):
        message = self.connection._connection.recv(timeout=PATIENCE, decode=False)
        self.events.append(self.connection.parse_event(message))
        return self.events[-1]

    def until(self, kind: str):
        """The next event of that type; an error event that nobody waits for is a failure."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            event = self.next()
            if event.type == kind:
                return event
            assert event.type != "error", event
        raise AssertionError(f"no {kind} among {[event.type for event in self.events]}")

    def types(self) -> list[str]:
        return [event.type for event in self.events]

    def update(self, **session) -> None:
        self.connection.session.update(session={"type": "realtime", **session})
        self.until("session.updated")

    def write(self, text: str) -> str:
        """A typed message; its id."""
        part = {"type": "input_text", "text": text}
        self.connection.conversation.item.create(item={"type": "message", "role": "user", "content": [part]})
        return self.until("conversation.item.added").item.id

    def send(self, samples) -> None:
        data = self.format.encode(Audio(np.asarray(samples, np.float32), RATE))
        size = int(FRAME * self.format.rate) * self.format.width
        for at in range(0, len(data), size):
            self.connection.input_audio_buffer.append(audio=base64.b64encode(data[at : at + size]).decode())

    def say(self, text: str, before: float = 0.4, after: float = 0.8) -> None:
        """Speak, between two silences in seconds."""
        self.send(np.concatenate([np.zeros(int(before * RATE)), tone(text), np.zeros(int(after * RATE))]))

    def answer(self):
        return self.until("response.done").response

    def sound(self, answer):
        """The samples of an answer, at the rate of the format."""
        deltas = [one for one in self.events if one.type == "response.output_audio.delta" and one.response_id == answer.id]
        return self.format.samples(b"".join(base64.b64decode(one.delta) for one in deltas))

    def heard(self, answer) -> str:
        """What the sound of an answer says, where it is spoken by the modem."""
        return understood(Audio(self.sound(answer), self.format.rate))


@contextmanager
def talk_to(url: str, format: str = "audio/pcm", **options):
    with openai.OpenAI(base_url=url + "/v1", api_key="me", max_retries=0) as client, client.realtime.connect(
        **{"model": "parrot", **options}
    ) as connection:
        talk = Talk(connection, format)
        talk.until("session.created")
        yield talk


@pytest.fixture
def serve():
    """Serves models until the test is over: `serve(catalog, engines=..., **config)` is its address."""
    running = []

    def serve(catalog, engines=None, **config) -> str:
        app = create_app(catalog, HttpConfig(**config), voice=voice_of(engines or modem_engines()))
        server = run_in_thread(app)
        running.append((app, server))
        return server.url

    yield serve
    for app, server in running:
        app.extensions["serving"].draining.set()
        server.close()
