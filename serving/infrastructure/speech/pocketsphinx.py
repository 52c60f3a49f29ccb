"""PocketSphinx, which brings its small English model along: clearly worse than Moonshine, but with times for words."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from serving.application.speech import Audio, Segment, Transcript, Word
from serving.infrastructure.speech.checks import require
from serving.infrastructure.speech.resampling import resampled
from serving.infrastructure.speech.silence import trimmed

RATE = 16000
FRAME = 0.01
"""Seconds that its times are counted in."""


class PocketSphinx:
    """A `SpeechToText`."""

    name = "pocketsphinx"
    languages = ("en",)

    def __init__(self) -> None:
        require("pocketsphinx", install="pip install pocketsphinx==5.1.1")
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=RATE, loglevel="FATAL")
        self._lock = threading.Lock()

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """As `SpeechToText`: one segment, with words."""
        samples, before = trimmed(resampled(audio, RATE))
        if not len(samples):
            return Transcript("")
        with self._lock:
            self._decoder.start_utt()
            self._decoder.process_raw((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes(), full_utt=True)
            self._decoder.end_utt()
            words = [self._word(one, before) for one in self._decoder.seg() or () if one.word.strip("'")[:1].isalpha()]
        if not words:
            return Transcript("")
        text = " ".join(word.text for word in words)
        return Transcript(text, (Segment(text, words[0].start, words[-1].end, tuple(words)),))

    @staticmethod
    def _word(one: Any, before: float) -> Word:
        return Word(one.word.partition("(")[0], before + one.start_frame * FRAME, before + (one.end_frame + 1) * FRAME)
