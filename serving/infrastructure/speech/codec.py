"""The codec that a version of the stage speak comes with, behind `NativeSpeech`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import CODEC_DIRECTORY
from lifecycle.speak.codecs import CodeReader, load_codec
from lifecycle.speak.data import heard_codes, written
from lifecycle.speak.tokens import BEGIN, code_token
from lifecycle.world.speech import RATE
from serving.application.speech import Audio
from serving.domain.errors import ContextLengthExceeded
from serving.infrastructure.speech.resampling import resampled
from serving.infrastructure.tokenizer import HFTokenizer

SILENT = 1e-3
"""Whatever is nowhere louder is silence."""
LOUD = 0.1
"""Of its loudest moment: whoever speaks is so loud."""
FAR, AROUND = 0.5, 0.16
"""Seconds: of more than `FAR` in which nobody speaks yet, or any more, `AROUND` is listened to, which is what training had around what is said."""


class CodecSpeech:
    """Sound as tokens of one model. Loading raises LifecycleError for a damaged codec, and a tokenizer without its codes."""

    def __init__(self, directory: Path, tokenizer: HFTokenizer) -> None:
        self._codec = load_codec(directory / CODEC_DIRECTORY)
        known = tokenizer.vocabulary
        first = known.get(code_token(0))
        if first is None or BEGIN not in known or known.get(code_token(self._codec.codes - 1)) != first + self._codec.codes - 1:
            raise LifecycleError(f"{directory} has a codec, but its tokenizer lacks the codec's tokens: take the whole version")
        self.rate = self._codec.rate
        self.begin = known[BEGIN]
        self.tokens = range(first, first + self._codec.codes)
        self._longest = tokenizer.context_length * self._codec.seconds

    def write(self, audio: Audio) -> str:
        """As `NativeSpeech`."""
        if audio.seconds > self._longest:
            raise ContextLengthExceeded(f"lasts {audio.seconds:.0f} s: this model hears at most {self._longest:.0f} s")
        sound = resampled(audio, RATE).samples
        if not len(sound) or np.abs(sound).max() < SILENT:
            return ""
        return written(heard_codes(self._codec, [spoken_part(sound)])[0])

    def read(self) -> CodecReader:
        """As `NativeSpeech`."""
        return CodecReader(self._codec.read(), self.rate, self.tokens.start)


def spoken_part(sound: np.ndarray) -> np.ndarray:
    """Samples at `RATE` without what is long before and long after all that is loud in them."""
    moment = RATE // 50
    loudness = np.sqrt(np.square(np.pad(sound, (0, -len(sound) % moment)).reshape(-1, moment)).mean(1))
    loud = np.flatnonzero(loudness >= LOUD * loudness.max()) * moment
    first, last = int(loud[0]), int(loud[-1]) + moment
    far, around = int(FAR * RATE), int(AROUND * RATE)
    return sound[first - around if first > far else 0 : last + around if len(sound) - last > far else len(sound)]


class CodecReader:
    """As `SpokenTokens`."""

    def __init__(self, aloud: CodeReader, rate: int, first: int) -> None:
        self._aloud, self._rate, self._first = aloud, rate, first

    def push(self, tokens: Sequence[int]) -> Audio:
        """As `SpokenTokens`."""
        return Audio(self._aloud.push([token - self._first for token in tokens]), self._rate)

    def finish(self) -> Audio:
        """As `SpokenTokens`."""
        return Audio(self._aloud.finish(), self._rate)
