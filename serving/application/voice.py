"""Use cases: write down what a sound says, and speak a text, for one of many who ask at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from serving.application.live.ports import SoundFormat
from serving.application.speech import Audio, CutSound, Segment, SpeechChunk, SpeechEngines, TextToSpeech, Word
from serving.application.waiting import place_of
from serving.domain.errors import InvalidRequest

AT_ONCE = 2
"""Pieces of sound that are computed at the same time; others wait."""
PATIENCE = 30.0
"""Seconds that one waits."""
KNOWN_VOICES = (
    "alloy", "ash", "ballad", "coral", "echo", "fable", "onyx", "nova", "sage", "shimmer", "verse", "marin", "cedar",
)
"""OpenAI's: each stands for the voice of that name, or for one of those that there are."""

OpenSound = Callable[[bytes, str], Audio]
"""(a file of any kind that is read, the field that it came in) to its sound, within the limits, on the caller's thread.

Raises `InvalidRequest` and its kinds `MediaTooLarge` and `UnsupportedMedia`, naming the field; and `QueueFull`.
"""
WriteSound = Callable[[str, int, Iterable[Audio], int | None], Iterator[bytes]]
"""(a format by its name, samples a second, pieces of sound, how many samples if that is known) to the file, piece by piece."""


@dataclass(frozen=True, slots=True)
class Voice:
    """What a server needs to hear and to speak."""

    engines: SpeechEngines
    open: OpenSound
    write: WriteSound
    cut: CutSound
    formats: Mapping[str, SoundFormat]
    """How sound travels in a live conversation, by name ("audio/pcm")."""
    _places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(AT_ONCE))

    def hear(self, audio: Audio, language: str | None = None) -> Iterator[list[Segment]]:
        """What was said, a stretch of the sound after the other; an empty list where nobody spoke.

        Raises `InvalidRequest` for a language that is not heard here, before anything is computed; `SpeechMissing`.
        """
        engine = self.engines.to_text()
        if language is not None and engine.languages and language not in engine.languages:
            raise InvalidRequest(
                f'"language" must be one of {", ".join(engine.languages)}: {engine.name} hears no other', param="language"
            )
        return self._heard(audio, language)

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """Sentence by sentence. Raises `InvalidRequest` for an unknown voice or speed; `SpeechMissing`."""
        engine = self.engines.to_speech()
        return self._spoken(engine.speak(text, choose_voice(engine, voice), speed))

    def _heard(self, audio: Audio, language: str | None) -> Iterator[list[Segment]]:
        engine = self.engines.to_text()
        for start, piece in self.cut(audio):
            with self._place():
                found = engine.transcribe(piece, language).segments
            yield [later(segment, start) for segment in found]

    def _spoken(self, chunks: Iterator[SpeechChunk]) -> Iterator[SpeechChunk]:
        while True:
            with self._place():
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def _place(self) -> AbstractContextManager[None]:
        return place_of(self._places, PATIENCE, "too many are being listened to or spoken for: send the request again later")


def choose_voice(engine: TextToSpeech, name: str | None) -> str | None:
    """The engine's voice that a client means: by its own name, or by one of `KNOWN_VOICES`."""
    if name is None or name in engine.voices or name not in KNOWN_VOICES:
        return name
    alike = [voice for voice in engine.voices if voice.endswith(f"_{name}")]
    return alike[0] if alike else engine.voices[KNOWN_VOICES.index(name) % len(engine.voices)]


def later(segment: Segment, seconds: float) -> Segment:
    """The same in a sound that began `seconds` earlier."""
    words = tuple(Word(word.text, word.start + seconds, word.end + seconds) for word in segment.words)
    return replace(segment, start=segment.start + seconds, end=segment.end + seconds, words=words)
