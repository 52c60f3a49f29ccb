"""Models of transformers that hear, by directory or hub name: Whisper, Moonshine and their like."""

from __future__ import annotations

import threading

from serving.application.speech import Audio, Segment, Transcript
from serving.infrastructure.speech.resampling import resampled
from serving.infrastructure.speech.silence import trimmed
from serving.infrastructure.speech.transformers_loading import loaded

TOKENS_PER_SECOND, SPARE = 8, 16
"""More than anybody says: a model that repeats itself is stopped."""


class SpeechSeq2Seq:
    """A `SpeechToText` around any model of `AutoModelForSpeechSeq2Seq`; one segment for each sound."""

    languages = ()

    def __init__(self, ref: str) -> None:
        from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

        self.name = ref
        self._model = loaded(AutoModelForSpeechSeq2Seq, ref)
        self._processor = loaded(AutoProcessor, ref)
        self._rate = self._processor.feature_extractor.sampling_rate
        self._lock = threading.Lock()

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        """As `SpeechToText`."""
        import torch

        samples, before = trimmed(resampled(audio, self._rate))
        if not len(samples):
            return Transcript("")
        inputs = self._processor(samples, sampling_rate=self._rate, return_tensors="pt")
        seconds = len(samples) / self._rate
        with self._lock, torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=self._most(seconds), do_sample=False, **self._told(language))
        text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return Transcript(text, (Segment(text, before, before + seconds),) if text else ())

    def _told(self, language: str | None) -> dict[str, str]:
        """For `generate`: only a model of several languages asks which one it is."""
        return {"language": language} if language and getattr(self._model.generation_config, "is_multilingual", False) else {}

    def _most(self, seconds: float) -> int:
        room = getattr(self._model.config, "max_target_positions", None) or self._model.config.max_position_embeddings
        return max(1, min(int(seconds * TOKENS_PER_SECOND) + SPARE, room - SPARE))
