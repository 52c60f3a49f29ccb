"""Kokoro-82M, rounded to int8, through ONNX Runtime: 24 kHz English speech in many voices."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, SpeechChunk
from serving.domain.turn_taking import ENDED
from serving.infrastructure.speech import kokoro_ranges
from serving.infrastructure.speech.checks import check_speech
from serving.infrastructure.speech.convolutions import SILENT, quick
from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.kokoro_reader import Reader
from serving.infrastructure.speech.onnx import session
from serving.infrastructure.speech.phonemes import HEARD
from serving.infrastructure.speech.silence import trimmed

RATE = 24000
BEFORE = 0.03
WITHIN, CLAUSE, SENTENCE = 0.05, 0.15, 0.25
"""Seconds of silence that are left before a piece, and at most behind one, by what ends with it."""
FADE = 120
"""Samples."""


class Kokoro:
    """A `TextToSpeech`."""

    name = "kokoro"
    rate = RATE

    def __init__(self, directory: Path | None = None, threads: int = 0) -> None:
        self._reader = Reader(directory)
        self.voices = self._reader.voices
        self._session = session(quick(find("kokoro.onnx", directory), kokoro_ranges.load()), threads)

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """As `TextToSpeech`."""
        voice = check_speech(self, voice, speed)
        return self._speak(text, voice, speed)

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[SpeechChunk]:
        for sentence in sentences(text):
            after = SENTENCE if ENDED.search(sentence) else CLAUSE if sentence[-1] in HEARD else WITHIN
            for part in self._reader.parts(sentence):
                yield SpeechChunk(sentence, Audio(self._samples(part, voice, speed, after / speed), RATE))
                sentence = ""  # told once, however many parts it has

    def _samples(self, signs: str, voice: str, speed: float, after: float) -> Any:
        """float32 [n] with at most so many seconds of silence behind it."""
        inputs = self._reader.inputs(signs, voice, speed)
        inputs[SILENT] = self._reader.silent(inputs["tokens"])
        samples = np.clip(self._session.run(None, inputs)[0].reshape(-1), -1, 1)
        samples[:FADE] *= np.linspace(0, 1, FADE, dtype=np.float32)  # it was cut off there, and would click
        return trimmed(Audio(samples, RATE), BEFORE, after)[0]
