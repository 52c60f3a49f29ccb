"""Somebody who talks to /v1/realtime in real time: sound is sent as fast as it is spoken, and all that comes back has its moment."""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

RATE = 24000
FRAME = 0.04
"""Seconds of sound in one event, like a page's."""
PATIENCE = 60.0


@dataclass
class Answer:
    """One response: moments in seconds (monotonic); `gaps`: how often its sound ran out before it had ended."""

    began: float
    first_text: float | None = None
    first_sound: float | None = None
    last_sound: float | None = None
    ended: float | None = None
    status: str = ""
    text: str = ""
    sound: bytes = b""
    played_until: float = 0.0
    gaps: int = 0

    @property
    def samples(self) -> np.ndarray:
        """float32 [n] at 24 kHz."""
        return np.frombuffer(self.sound, "<i2").astype(np.float32) / 32768


@dataclass
class Turn:
    """What somebody said: when its last word ended, and what the server made of it."""

    ended: float
    started_at: float | None = None  # when the server noticed
    stopped_at: float | None = None
    transcribed_at: float | None = None
    transcript: str = ""


@dataclass
class Caller:
    """One connection. `answers` and `heard` grow as events come in."""

    url: str
    model: str
    session: dict = field(default_factory=dict)

    def __enter__(self) -> Caller:
        address = f"{self.url.replace('http', 'ws', 1)}/v1/realtime?model={self.model}"
        self._socket = connect(address, max_size=None, open_timeout=PATIENCE)
        self._changed = threading.Condition()
        self.events: list[tuple[float, dict]] = []
        self.answers: dict[str, Answer] = {}
        threading.Thread(target=self._listen, daemon=True).start()
        self.wait("session.created")
        if self.session:
            self.tell("session.update", session={"type": "realtime", **self.session})
            self.wait("session.updated")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def tell(self, kind: str, **fields: object) -> None:
        self._socket.send(json.dumps({"type": kind, **fields}))

    def speak(self, samples: np.ndarray, *, paced: bool = True) -> float:
        """float32 [n] into the microphone; the moment at which the first of it was sent."""
        data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        size, began = int(FRAME * RATE) * 2, time.monotonic()
        for count, at in enumerate(range(0, len(data), size)):
            if paced:
                time.sleep(max(0.0, began + (count + 1) * FRAME - time.monotonic()))  # a frame is there when it is over
            self.tell("input_audio_buffer.append", audio=base64.b64encode(data[at : at + size]).decode())
        return began

    def wait(self, kind: str, since: int = 0) -> tuple[float, dict]:
        """The first event of that type from number `since` on, with its moment. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE
        at = since
        with self._changed:
            while True:
                for moment, event in self.events[at:]:
                    if event["type"] == kind:
                        return moment, event
                at = max(since, len(self.events))
                if not self._changed.wait(deadline - time.monotonic()):
                    raise TimeoutError(f"no {kind} within {PATIENCE:.0f} s")

    def said(self, event: dict) -> Answer:
        """The answer that an event is about."""
        return self.answers[event.get("response_id") or event["response"]["id"]]

    def _listen(self) -> None:
        try:
            for message in self._socket:
                moment, event = time.monotonic(), json.loads(message)
                self._note(moment, event)
                with self._changed:
                    self.events.append((moment, event))
                    self._changed.notify_all()
        except ConnectionClosed:
            return

    def _note(self, moment: float, event: dict) -> None:
        kind = event["type"]
        if kind == "response.created":
            self.answers[event["response"]["id"]] = Answer(moment)
        elif kind == "response.output_audio_transcript.delta":
            answer = self.said(event)
            answer.first_text = answer.first_text or moment
            answer.text += event["delta"]
        elif kind == "response.output_audio.delta":
            self._sound(self.said(event), moment, base64.b64decode(event.pop("delta")))
        elif kind == "response.done":
            answer = self.said(event)
            answer.ended, answer.status = moment, event["response"]["status"]

    @staticmethod
    def _sound(answer: Answer, moment: float, data: bytes) -> None:
        if answer.first_sound is None:
            answer.first_sound = answer.played_until = moment
        answer.gaps += moment > answer.played_until + 1e-3
        answer.played_until = max(answer.played_until, moment) + len(data) / 2 / RATE
        answer.last_sound = moment
        answer.sound += data
