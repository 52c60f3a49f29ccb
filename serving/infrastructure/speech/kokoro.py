"""Kokoro-82M, rounded to int8, through ONNX Runtime: 24 kHz English speech in many voices."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, SpeechChunk
from serving.infrastructure.speech.checks import check_speech
from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.onnx import session
from serving.infrastructure.speech.phonemes import Phonemes
from serving.infrastructure.speech.silence import trimmed

RATE = 24000
MOST_SIGNS = 500
"""That the model was trained for, 510, less room for the two paddings."""
FIRST = "af_heart"
BEFORE, AFTER = 0.03, 0.25
"""Seconds of silence that are left around a sentence, of the third of a second and more that the model puts there."""


class Kokoro:
    """A `TextToSpeech`."""

    name = "kokoro"
    rate = RATE

    def __init__(self, directory: Path | None = None, threads: int = 0) -> None:
        vocabulary = json.loads(find("kokoro-vocabulary.json", directory).read_text(encoding="utf-8"))["vocab"]
        self._numbers: dict[str, int] = vocabulary
        self._folder = find("kokoro-voices", directory)
        self._phonemes = Phonemes(find("cmudict.tsv", directory))
        names = sorted(file.stem for file in self._folder.glob("*.bin"))
        self.voices = tuple(sorted(names, key=lambda name: name != FIRST))
        self._styles: dict[str, Any] = {}
        self._session = session(find("kokoro.onnx", directory), threads)

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """As `TextToSpeech`."""
        voice = check_speech(self, voice, speed)
        return self._speak(text, voice, speed)

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[SpeechChunk]:
        for sentence in sentences(text):
            signs = self._phonemes(sentence)
            for part in _parts(signs):
                spoken = Audio(self._samples(part, voice, speed), RATE)
                yield SpeechChunk(sentence, Audio(trimmed(spoken, BEFORE, AFTER / speed)[0], RATE))
                sentence = ""  # told once, however many parts it has

    def _samples(self, signs: str, voice: str, speed: float) -> Any:
        numbers = [self._numbers[sign] for sign in signs if sign in self._numbers]
        styles = self._style(voice)
        inputs = {
            "tokens": np.array([[0, *numbers, 0]], np.int64),
            "style": styles[min(len(numbers), len(styles) - 1)],
            "speed": np.array([speed], np.float32),
        }
        return np.clip(self._session.run(None, inputs)[0].reshape(-1), -1, 1)

    def _style(self, voice: str) -> Any:
        """[510, 1, 256]: how the voice speaks a text of so many signs."""
        if voice not in self._styles:
            self._styles[voice] = np.fromfile(self._folder / f"{voice}.bin", np.float32).reshape(-1, 1, 256)
        return self._styles[voice]


def _parts(signs: str) -> Iterator[str]:
    """What the model can speak at once, cut between words."""
    while len(signs) > MOST_SIGNS:
        cut = signs.rfind(" ", 0, MOST_SIGNS)
        cut = cut if cut > 0 else MOST_SIGNS
        yield signs[:cut]
        signs = signs[cut:].lstrip()
    if signs:
        yield signs
