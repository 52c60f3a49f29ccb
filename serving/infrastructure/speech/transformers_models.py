"""Speech models of transformers, by directory or hub name: Whisper, Moonshine and their like hear, VITS speaks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, Segment, SpeechChunk, Transcript
from serving.domain.errors import SpeechMissing
from serving.infrastructure.speech.checks import check_speech
from serving.infrastructure.speech.resampling import resampled
from serving.infrastructure.speech.silence import trimmed

TOKENS_PER_SECOND, SPARE = 8, 16
"""More than anybody says: a model that repeats itself is stopped."""


class SpeechSeq2Seq:
    """A `SpeechToText` around any model of `AutoModelForSpeechSeq2Seq`; one segment for each sound."""

    languages = ()

    def __init__(self, ref: str) -> None:
        from transformers import AutoModelForSpeechSeq2Seq

        self.name = ref
        self._model = _loaded(AutoModelForSpeechSeq2Seq, ref)
        self._processor = _processor(ref)
        self._rate = self._processor.feature_extractor.sampling_rate
        self._lock = threading.Lock()

    def transcribe(self, audio: Audio) -> Transcript:
        """As `SpeechToText`."""
        import torch

        samples, before = trimmed(resampled(audio, self._rate))
        if not len(samples):
            return Transcript("")
        inputs = self._processor(samples, sampling_rate=self._rate, return_tensors="pt")
        seconds = len(samples) / self._rate
        with self._lock, torch.inference_mode():
            tokens = self._model.generate(**inputs, max_new_tokens=self._most(seconds), do_sample=False)
        text = self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return Transcript(text, (Segment(text, before, before + seconds),) if text else ())

    def _most(self, seconds: float) -> int:
        room = getattr(self._model.config, "max_target_positions", None) or self._model.config.max_position_embeddings
        return max(1, min(int(seconds * TOKENS_PER_SECOND) + SPARE, room - SPARE))


class Vits:
    """A `TextToSpeech` around a VITS or MMS checkpoint; its speakers are "0", "1", ..."""

    def __init__(self, ref: str) -> None:
        from transformers import AutoTokenizer, VitsModel

        self.name = ref
        self._model = _loaded(VitsModel, ref)
        self._tokenizer = AutoTokenizer.from_pretrained(ref)
        self._pace = self._model.speaking_rate
        self.rate = self._model.config.sampling_rate
        self.voices = tuple(map(str, range(max(1, self._model.config.num_speakers))))
        self._lock = threading.Lock()

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        """As `TextToSpeech`."""
        voice = check_speech(self, voice, speed)
        return self._speak(text, voice, speed)

    def _speak(self, text: str, voice: str, speed: float) -> Iterator[SpeechChunk]:
        for sentence in sentences(text):
            if any(map(str.isalnum, sentence)) and len(samples := self._samples(sentence, voice, speed)):
                yield SpeechChunk(sentence, Audio(samples, self.rate))

    def _samples(self, sentence: str, voice: str, speed: float) -> Any:
        import torch

        inputs = self._tokenizer(sentence, return_tensors="pt")
        if not inputs["input_ids"].shape[1]:
            return np.zeros(0, np.float32)
        speaker = int(voice) if len(self.voices) > 1 else None
        with self._lock, torch.inference_mode():
            self._model.speaking_rate = self._pace * speed
            wave = self._model(**inputs, speaker_id=speaker).waveform[0]
        return np.clip(wave.float().numpy(), -1, 1)


def _loaded(kind: Any, ref: str) -> Any:
    import torch

    try:
        return kind.from_pretrained(ref, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        raise SpeechMissing(f'"{ref}" is no speech model that can be loaded here: {_first_line(error)}') from None


def _processor(ref: str) -> Any:
    from transformers import AutoProcessor

    try:
        return AutoProcessor.from_pretrained(ref)
    except (OSError, ValueError) as error:
        raise SpeechMissing(f'"{ref}" has no processor for sound: {_first_line(error)}') from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
