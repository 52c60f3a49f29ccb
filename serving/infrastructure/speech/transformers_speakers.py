"""Models of transformers that speak, by directory or hub name: VITS (MMS) and SpeechT5."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, SpeechChunk, TextToSpeech
from serving.domain.errors import SpeechMissing
from serving.infrastructure.speech.checks import check_speech
from serving.infrastructure.speech.resampling import at_speed
from serving.infrastructure.speech.transformers_loading import loaded

VOCODER = "microsoft/speecht5_hifigan"
"""Makes sound of SpeechT5's spectrograms, where its directory has no `vocoder`."""


class Speaker(Protocol):
    """One architecture."""

    rate: int
    """Samples a second."""
    voices: tuple[str, ...]

    def samples(self, tokens: Any, voice: str, speed: float) -> Any:
        """The sound, float32 [n], of the tokens of a sentence, int64 [1, at least 1]; for one thread at a time."""


class TransformersSpeech:
    """A `TextToSpeech` around a `Speaker` and its tokenizer."""

    def __init__(self, ref: str, speaker: Speaker) -> None:
        from transformers import AutoTokenizer

        self.name, self._speaker = ref, speaker
        self.rate, self.voices = speaker.rate, speaker.voices
        self._tokenizer = loaded(AutoTokenizer, ref)
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

        tokens = self._tokenizer(sentence, return_tensors="pt")["input_ids"]
        if not tokens.shape[1]:
            return np.zeros(0, np.float32)
        with self._lock, torch.inference_mode():
            return np.clip(self._speaker.samples(tokens, voice, speed), -1, 1)


class Vits:
    """Its speakers are "0", "1", ..."""

    def __init__(self, ref: str) -> None:
        from transformers import VitsModel

        self._model = loaded(VitsModel, ref)
        self._pace = self._model.speaking_rate
        self.rate = self._model.config.sampling_rate
        self.voices = tuple(map(str, range(max(1, self._model.config.num_speakers))))

    def samples(self, tokens: Any, voice: str, speed: float) -> Any:
        """As `Speaker`."""
        self._model.speaking_rate = self._pace * speed
        speaker = int(voice) if len(self.voices) > 1 else None
        return self._model(tokens, speaker_id=speaker).waveform[0].float().numpy()


class SpeechT5:
    """Speaks like whoever an x-vector describes: `speakers` has a float32 [512] (or as many as the model wants) for each name."""

    def __init__(self, ref: str, speakers: dict[str, Any]) -> None:
        from transformers import SpeechT5ForTextToSpeech, SpeechT5HifiGan

        self._model = loaded(SpeechT5ForTextToSpeech, ref)
        own = Path(ref) / "vocoder"
        self._vocoder = loaded(SpeechT5HifiGan, str(own) if own.is_dir() else VOCODER)
        width = self._model.config.speaker_embedding_dim
        for name, vector in speakers.items():
            if vector.shape != (width,):
                raise SpeechMissing(f'the voice "{name}" must have {width} numbers, not the shape {list(vector.shape)}')
        self._speakers = speakers
        self.rate = self._vocoder.config.sampling_rate
        self.voices = tuple(speakers)

    def samples(self, tokens: Any, voice: str, speed: float) -> Any:
        """As `Speaker`. The model has one pace: what is said faster or slower is stretched."""
        import torch

        who = torch.from_numpy(self._speakers[voice])[None]
        sound = self._model.generate_speech(tokens, who, vocoder=self._vocoder)
        return at_speed(Audio(sound.float().numpy(), self.rate), speed).samples


def load_speaker(ref: str, speakers: str) -> TextToSpeech:
    """By the model's type; `speakers`: a directory of NAME.npy, for SpeechT5. Raises `SpeechMissing`."""
    from transformers import AutoConfig

    config = loaded(AutoConfig, ref)
    if config.model_type == "speecht5":
        return TransformersSpeech(ref, SpeechT5(ref, _x_vectors(Path(speakers or Path(ref) / "speakers"))))
    return TransformersSpeech(ref, Vits(ref))


def _x_vectors(directory: Path) -> dict[str, Any]:
    try:
        found = {file.stem: np.load(file, allow_pickle=False).astype(np.float32) for file in sorted(directory.glob("*.npy"))}
    except (OSError, ValueError) as error:
        raise SpeechMissing(f"{directory} has a voice that cannot be read: {error}") from None
    if not found:
        raise SpeechMissing(
            f"SpeechT5 speaks like somebody: put x-vectors (NAME.npy) into {directory}, or name their directory: --set speakers_dir=DIR"
        )
    return found
