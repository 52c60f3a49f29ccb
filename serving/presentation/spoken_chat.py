"""Answers of chats that are spoken: whole, or sentence by sentence while the model still writes."""

from __future__ import annotations

import base64
import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import Any

from serving.application.deltas import ChoiceFinished, Delta, TextDelta
from serving.application.generation import Generation
from serving.application.sentences import Sentences
from serving.application.speech import Audio
from serving.domain.errors import InvalidRequest
from serving.presentation.hearing import attended, metered, voice_of
from serving.presentation.metrics import Meter
from serving.presentation.peer import Peer
from serving.presentation.schemas.audio import AudioOutput, voice_name
from serving.presentation.state import ServerState
from serving.presentation.streaming import Chunks, ClientGone, body_of, follow, raise_failure

FILES = {"pcm16": "pcm"}


class SoundFile:
    """The sound of one answer, whoever makes it, as a file of the kind that was asked for."""

    def __init__(self, state: ServerState, asked: AudioOutput, tenant: str, rate: int) -> None:
        self.id = state.spoken.new_id()
        self._state, self._tenant, self._rate = state, tenant, rate
        self._voice = voice_of(state)
        self._format = FILES.get(asked.format, asked.format)

    def file(self, pieces: Iterable[Audio], count: int | None = None) -> Iterator[bytes]:
        """`count`: how many samples there will be, where that is known."""
        return self._voice.write(self._format, self._rate, pieces, count)

    def keep(self, transcript: str) -> int:
        """Until when a client may go on from it, in Unix seconds."""
        return self._state.spoken.keep(self._tenant, self.id, transcript)

    def whole(self, pieces: list[Audio], transcript: str) -> dict[str, Any]:
        """All of it as a message has it."""
        data = b"".join(self.file(pieces, sum(len(piece.samples) for piece in pieces))) if pieces else b""
        until = self.keep(transcript)
        return {"id": self.id, "data": base64.b64encode(data).decode(), "expires_at": until, "transcript": transcript}


class Speaker(SoundFile):
    """Speaks the one answer of one request. Raises `InvalidRequest` for an unknown voice, and `SpeechMissing`."""

    def __init__(self, state: ServerState, asked: AudioOutput, tenant: str) -> None:
        super().__init__(state, asked, tenant, voice_of(state).engines.to_speech().rate)
        self._name = voice_name(asked.voice)
        try:
            self._voice.speak("", self._name)
        except InvalidRequest as error:
            raise InvalidRequest(error.message.replace('"voice"', '"audio.voice"'), param="audio.voice") from None

    def sounds(self, text: str) -> Iterator[Audio]:
        """Of its sentences."""
        return (chunk.audio for chunk in metered(self._state, "spoken", self._voice.speak(text, self._name)))


def spoken_answer(whole: dict[str, Any], speaker: Speaker, peer: Peer) -> dict[str, Any]:
    """A whole answer with sound in place of its text; one that only calls tools stays as it is. Raises `ClientGone`."""
    message = whole["choices"][0]["message"]
    if text := message["content"]:
        message |= {"content": None, "audio": speaker.whole(list(attended(speaker.sounds(text), peer)), text)}
    return whole


def spoken_stream(
    generation: Generation, peer: Peer, meter: Meter, state: ServerState, chunks: Chunks, speaker: Speaker, to_choices: Any
) -> Iterator[bytes]:
    """The body of a streaming response: what is said as it is written, and how it sounds as soon as it was spoken."""
    mouth = Mouth(speaker)
    said: list[str] = []
    end: list[Delta] = []

    def say(text: str) -> list[dict[str, Any]]:
        if not text:
            return []
        said.append(text)
        mouth.say(text)
        return [{"id": speaker.id, "transcript": text}]

    def written() -> Iterator[str]:
        yield chunks.chunk(choice_of({"role": "assistant", "content": ""}))
        with closing(follow(generation, peer, meter, state.config.tick_seconds)) as updates:
            for deltas in updates:
                raise_failure(deltas)
                lines = mouth.take()
                for delta in deltas:
                    if isinstance(delta, ChoiceFinished):
                        end.append(delta)
                    elif isinstance(delta, TextDelta):
                        lines += say(delta.text)
                    else:
                        yield "".join(map(chunks.chunk, to_choices(delta)))
                yield _lines(chunks, lines)
        mouth.finish()
        while not mouth.done:
            yield _lines(chunks, mouth.take(state.config.tick_seconds))
            if peer.gone():
                raise ClientGone
        if text := "".join(said):
            yield _lines(chunks, [{"id": speaker.id, "expires_at": speaker.keep(text)}])
        yield "".join(chunks.chunk(choice) for delta in end for choice in to_choices(delta))

    try:
        yield from body_of(written(), chunks, state.config.ping_seconds)
    finally:
        mouth.stop()


def _lines(chunks: Chunks, audio: list[dict[str, Any]]) -> str:
    return "".join(chunks.chunk(choice_of({"audio": one})) for one in audio)


def choice_of(delta: dict[str, Any]) -> dict[str, Any]:
    """A delta of the one choice that a spoken answer has."""
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}


class Mouth:
    """A thread that speaks sentences in their order, as speaking one may take longer than writing many."""

    def __init__(self, speaker: Speaker) -> None:
        self.done = False
        self._speaker = speaker
        self._sentences = Sentences()
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._made: queue.SimpleQueue[bytes | Exception | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="mouth", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        """More text; its complete sentences are spoken."""
        for sentence in self._sentences.push(text):
            self._wanted.put(sentence)

    def finish(self) -> None:
        """Nothing follows."""
        self._wanted.put(self._sentences.flush())
        self._wanted.put(None)

    def stop(self) -> None:
        """Say nothing more; a sentence that is being computed is the last one."""
        self._stopped.set()
        self._wanted.put(None)

    def take(self, timeout: float = 0.0) -> list[dict[str, Any]]:
        """What has been spoken since, as deltas, waiting so long for the first. Raises what went wrong."""
        lines = []
        while True:
            try:
                made = self._made.get(timeout=0.0 if lines else timeout) if timeout else self._made.get_nowait()
            except queue.Empty:
                return lines
            if isinstance(made, Exception):
                raise made
            if made is None:
                self.done = True
                return lines
            if made:
                lines.append({"id": self._speaker.id, "data": base64.b64encode(made).decode()})

    def _speak(self) -> None:
        try:
            for piece in self._speaker.file(self._pieces()):
                self._made.put(piece)
            self._made.put(None)
        except Exception as error:
            self._made.put(error)

    def _pieces(self) -> Iterator[Audio]:
        while (sentence := self._wanted.get()) is not None and not self._stopped.is_set():
            for audio in self._speaker.sounds(sentence):
                if self._stopped.is_set():
                    return
                yield audio
