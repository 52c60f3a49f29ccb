"""Text to what Kokoro is given: numbers of sounds, and how a voice speaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.phonemes import HEARD, Phonemes

MOST_SIGNS = 500
"""That the model was trained for, 510, less room for the two paddings."""
FIRST = "af_heart"
"""The voice of whoever asks for none."""


class Reader:
    """As the model of the file wants it. Raises `SpeechMissing` where a file is missing."""

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


def _parts(signs: str) -> Iterator[str]:
    """What the model can speak at once, cut between words."""
    while len(signs) > MOST_SIGNS:
        cut = signs.rfind(" ", 0, MOST_SIGNS)
        cut = cut if cut > 0 else MOST_SIGNS
        yield signs[:cut]
        signs = signs[cut:].lstrip()
    if signs:
        yield signs
