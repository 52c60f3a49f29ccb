"""What a live conversation needs from outside, as protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from serving.application.chat import GenerateChat
from serving.application.deltas import Delta, Usage
from serving.application.live.events import LiveEvent
from serving.application.ports import ServedModel
from serving.application.speech import Audio


class SoundReader(Protocol):
    """Turns the bytes of one connection into samples, as they come. For one thread."""

    def push(self, data: bytes) -> Any:
        """Samples, float32 [n]."""


class SoundFormat(Protocol):
    """How sound travels."""

    name: str
    rate: int
    """Samples a second."""
    width: int
    """Bytes a sample."""

    def reader(self, rate: int) -> SoundReader:
        """For a stream of bytes, of which samples at another rate are wanted."""

    def decode(self, data: bytes) -> Audio:
        """All of it at once."""

    def encode(self, audio: Audio) -> bytes:
        """Sound of any rate as bytes of this format."""


class Answering(Protocol):
    """A request that has been admitted. Leaving `deltas` early gives it up."""

    usage: Usage

    def deltas(self, tick: float) -> Iterator[Sequence[Delta]]:
        """Lists of deltas in their order; an empty one after `tick` seconds without any."""


class LanguageModel(Protocol):
    """Who answers, on behalf of whoever is connected."""

    def model(self) -> ServedModel:
        """Raises `ModelNotFound` and `Draining`."""

    def ask(self, command: GenerateChat) -> Answering:
        """Raises what `GenerateChat.start` raises, and `RateLimited`."""


class EventSink(Protocol):
    """Takes what happens to the other end. Never blocks; safe from any thread."""

    def tell(self, event: LiveEvent) -> None: ...

    def purge(self, answer_id: str) -> None:
        """Sound of this answer that has not left yet never will."""

    def backlog(self) -> int:
        """Bytes that wait."""


Clock = Callable[[], float]
