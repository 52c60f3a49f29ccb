"""Kokoro-82M, rounded to int8, through ONNX Runtime: 24 kHz English speech in many voices."""

from __future__ import annotations

import json
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
from serving.infrastructure.speech.onnx import session
from serving.infrastructure.speech.phonemes import HEARD, Phonemes
from serving.infrastructure.speech.silence import trimmed

RATE = 24000
MOST_SIGNS = 500
"""That the model was trained for, 510, less room for the two paddings."""
FIRST = "af_heart"
BEFORE = 0.03
WITHIN, CLAUSE, SENTENCE = 0.05, 0.15, 0.25
"""Seconds of silence that are left before a piece, and at most behind one, by what ends with it."""
FADE = 120
"""Samples."""


class Reader:
    """Text to what the model is given."""

    def __init__(self, directory: Path | None = None) -> None:
        vocabulary = json.loads(find("kokoro-vocabulary.json", directory).read_text(encoding="utf-8"))["vocab"]
        self._numbers: dict[str, int] = vocabulary
        self._marks = {vocabulary[sign] for sign in HEARD if sign in vocabulary}
        self._folder = find("kokoro-voices", directory)
        self._phonemes = Phonemes(find("cmudict.tsv", directory))
        names = sorted(file.stem for file in self._folder.glob("*.bin"))
        self.voices = tuple(sorted(names, key=lambda name: name != FIRST))
        self._styles: dict[str, Any] = {}

    def parts(self, sentence: str) -> Iterator[str]:
        """Signs that the model can speak at once; nothing for a text without a word."""
        return _parts(self._phonemes(sentence))

    def inputs(self, signs: str, voice: str, speed: float) -> dict[str, Any]:
        """By the names of the model in the file."""
        numbers = [self._numbers[sign] for sign in signs if sign in self._numbers]
        styles = self._style(voice)
        return {
            "tokens": np.array([[0, *numbers, 0]], np.int64),
            "style": styles[min(len(numbers), len(styles) - 1)],
            "speed": np.array([speed], np.float32),
        }

    def silent(self, tokens: Any) -> Any:
        """Float32 [2, signs]: ones at the signs that are silence at the beginning and at the end of these [1, signs]."""
        marks = np.zeros((2, tokens.shape[1]), np.float32)
        marks[0, 0] = marks[1, -1] = 1
        marks[1, -2] = tokens[0, -2] in self._marks
        return marks

    def _style(self, voice: str) -> Any:
        """[510, 1, 256]: how the voice speaks a text of so many signs."""
        if voice not in self._styles:
            self._styles[voice] = np.fromfile(self._folder / f"{voice}.bin", np.float32).reshape(-1, 1, 256)
        return self._styles[voice]


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


def _parts(signs: str) -> Iterator[str]:
    """What the model can speak at once, cut between words."""
    while len(signs) > MOST_SIGNS:
        cut = signs.rfind(" ", 0, MOST_SIGNS)
        cut = cut if cut > 0 else MOST_SIGNS
        yield signs[:cut]
        signs = signs[cut:].lstrip()
    if signs:
        yield signs
