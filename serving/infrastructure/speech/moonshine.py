"""Moonshine tiny-en, which travels inside its package: English speech to text on a CPU."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from serving.application.speech import Audio, Segment, Transcript
from serving.infrastructure.speech.checks import require
from serving.infrastructure.speech.resampling import resampled
from serving.infrastructure.speech.silence import trimmed

RATE = 16000
PAUSE = 0.3
"""Seconds of silence that are put behind a sound, so that its last word is not cut."""
OPTIONS = {"identify_speakers": "false"}
"""Nobody asks who speaks, and finding it out takes a quarter of the time. 0.0.49 crashes when it is to free such a model."""


class Moonshine:
    """A `SpeechToText`."""

    name = "moonshine tiny-en"
    languages = ("en",)

    def __init__(self) -> None:
        require("moonshine_voice", "av")
        from moonshine_voice import ModelArch, get_assets_path
        from moonshine_voice.transcriber import Transcriber

        self._model = Transcriber(f"{get_assets_path()}/tiny-en", ModelArch.TINY, options=OPTIONS)
        self._model.close = lambda: None  # kept until the process ends
        self._lock = threading.Lock()

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """As `SpeechToText`; a segment is what the model's own pauses divide."""
        samples, before = trimmed(resampled(audio, RATE))
        if not len(samples):
            return Transcript("")
        samples = np.concatenate([samples, np.zeros(int(PAUSE * RATE), np.float32)])
        with self._lock:
            lines = self._model.transcribe_without_streaming(samples.tolist(), RATE).lines
        segments = tuple(self._segment(line, before, audio.seconds) for line in lines if line.text.strip())
        return Transcript(" ".join(segment.text for segment in segments), segments)

    @staticmethod
    def _segment(line: Any, before: float, longest: float) -> Segment:
        start = min(before + max(line.start_time, 0.0), longest)
        return Segment(line.text.strip(), start, min(start + line.duration, longest))
