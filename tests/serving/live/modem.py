"""A language that machines speak: every letter is a tone. Deterministic, needs no model, and survives G.711."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from serving.application.sentences import sentences
from serving.application.speech import Audio, SpeechChunk, SpeechEngines, Transcript
from serving.domain.errors import InvalidRequest

RATE = 24000
LETTER = 0.06
"""Seconds."""
LOWEST, STEP = 500.0, 30.0
"""Hz, of the first printable character, and from one to the next."""
LOUD = 0.02


def tone(text: str, rate: int = RATE, loudness: float = 0.5) -> np.ndarray:
    """A text as float32 [n]."""
    at = np.arange(round(LETTER * rate)) / rate
    pitches = [LOWEST + STEP * (ord(letter) - 32) for letter in text]
    return np.concatenate([loudness * np.sin(2 * np.pi * pitch * at) for pitch in pitches] or [at[:0]]).astype(np.float32)


def understood(audio: Audio) -> str:
    """The text of a sound that may begin and end with silence."""
    samples, size = np.asarray(audio.samples), round(LETTER * audio.rate)
    loud = np.flatnonzero(np.abs(samples) > LOUD)
    if not len(loud):
        return ""
    samples = samples[loud[0] : loud[-1] + 1]
    letters = [samples[at : at + size] for at in range(0, len(samples) - size // 2, size)]
    return "".join(chr(32 + round((_pitch(one, audio.rate) - LOWEST) / STEP)) for one in letters)


def _pitch(samples: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 16384))
    return float(np.argmax(spectrum) * rate / 16384)


class ModemEars:
    """A `SpeechToText`."""

    name = "modem"
    languages = ()

    def transcribe(self, audio: Audio, language: str | None = None) -> Transcript:
        return Transcript(understood(audio))


class ModemMouth:
    """A `TextToSpeech`; `slow` is waited for before every sentence."""

    name = "modem"
    rate = RATE
    voices = ("sine", "other")

    def __init__(self) -> None:
        self.slow = lambda: None

    def speak(self, text: str, voice: str | None = None, speed: float = 1.0) -> Iterator[SpeechChunk]:
        if voice not in (None, *self.voices):
            raise InvalidRequest(f'there is no voice "{voice}"', param="voice")
        for sentence in sentences(text):
            self.slow()
            yield SpeechChunk(sentence, Audio(tone(sentence), RATE))


class LoudnessStream:
    """A `VoiceStream`."""

    def __init__(self) -> None:
        self.reset()

    def push(self, samples) -> list[float]:
        heard = np.concatenate([self._rest, samples])
        count = len(heard) // 512
        self._rest = heard[count * 512 :]
        return [float(np.abs(heard[at * 512 : (at + 1) * 512]).max() > LOUD) for at in range(count)]

    def reset(self) -> None:
        self._rest = np.zeros(0, np.float32)


class Loudness:
    """A `VoiceActivity`."""

    name, rate, window = "loudness", 16000, 512

    def stream(self) -> LoudnessStream:
        return LoudnessStream()


def modem_engines() -> SpeechEngines:
    ears, mouth, activity = ModemEars(), ModemMouth(), Loudness()
    return SpeechEngines(lambda: ears, lambda: mouth, lambda: activity)
