"""Answers of a model that speaks itself: its tokens of sound are read aloud by its codec while it still writes."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from serving.application.deltas import ChoiceFinished, Delta, SoundDelta, TextDelta
from serving.application.generation import Generation
from serving.application.speech import Audio, NativeSpeech
from serving.presentation.metrics import Meter
from serving.presentation.peer import Peer
from serving.presentation.schemas.audio import AudioOutput
from serving.presentation.spoken_chat import SoundFile, choice_of
from serving.presentation.state import ServerState
from serving.presentation.streaming import Chunks, body_of, follow, raise_failure


class NativeSpeaker(SoundFile):
    """Reads the one answer of one request aloud. Its voice is the one that it learnt, whichever is asked for."""

    def __init__(self, state: ServerState, asked: AudioOutput, tenant: str, speech: NativeSpeech) -> None:
        super().__init__(state, asked, tenant, speech.rate)
        self._reader = speech.read()
        state.voice_metrics.begin("spoken")

    def push(self, deltas: Sequence[Delta]) -> Audio:
        """More of the answer to more of its sound."""
        return self._timed(lambda: self._reader.push(tokens_of(deltas)))

    def finish(self) -> Audio:
        """What is left of it."""
        return self._timed(self._reader.finish)

    def _timed(self, read: Any) -> Audio:
        with self._state.voice_metrics.timed("spoken"):
            audio = read()
        self._state.voice_metrics.add("spoken", audio.seconds)
        return audio


def tokens_of(deltas: Sequence[Delta]) -> list[int]:
    """Those of sound."""
    return [token for delta in deltas if isinstance(delta, SoundDelta) for token in delta.tokens]


def native_answer(whole: dict[str, Any], speaker: NativeSpeaker, deltas: Sequence[Delta]) -> dict[str, Any]:
    """A whole answer with its sound in place of its text; one that only calls tools stays as it is."""
    message = whole["choices"][0]["message"]
    text = message["content"]
    if text or tokens_of(deltas):
        message |= {"content": None, "audio": speaker.whole([speaker.push(deltas), speaker.finish()], text or "")}
    return whole


def native_stream(
    generation: Generation, peer: Peer, meter: Meter, state: ServerState, chunks: Chunks, speaker: NativeSpeaker, to_choices: Any
) -> Iterator[bytes]:
    """The body of a streaming response: what is said, and how it sounds, both while they are being written."""
    lines: list[dict[str, Any]] = []
    said: list[str] = []
    end: list[Delta] = []

    def tell(text: str) -> None:
        if text:
            said.append(text)
            lines.append({"audio": {"id": speaker.id, "transcript": text}})

    def pieces() -> Iterator[Audio]:
        with closing(follow(generation, peer, meter, state.config.tick_seconds)) as updates:
            for deltas in updates:
                raise_failure(deltas)
                for delta in deltas:
                    if isinstance(delta, TextDelta):
                        tell(delta.text)
                    elif isinstance(delta, ChoiceFinished):
                        end.append(delta)
                    elif not isinstance(delta, SoundDelta):
                        lines.extend(choice["delta"] for choice in to_choices(delta))
                yield speaker.push(deltas)
        yield speaker.finish()

    def written() -> Iterator[str]:
        yield chunks.chunk(choice_of({"role": "assistant", "content": ""}))
        with closing(speaker.file(pieces())) as data:
            for piece in data:
                if piece:
                    lines.append({"audio": {"id": speaker.id, "data": base64.b64encode(piece).decode()}})
                yield "".join(chunks.chunk(choice_of(line)) for line in lines)
                lines.clear()
        if text := "".join(said):
            yield chunks.chunk(choice_of({"audio": {"id": speaker.id, "expires_at": speaker.keep(text)}}))
        yield "".join(chunks.chunk(choice) for delta in end for choice in to_choices(delta))

    return body_of(written(), chunks, state.config.ping_seconds)
