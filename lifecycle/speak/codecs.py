"""What turns speech into tokens and back, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor


class CodeReader(Protocol):
    """Reads one answer aloud: the same samples however its codes are cut up when they come."""

    def push(self, codes: Sequence[int]) -> np.ndarray:
        """Further codes to the float samples that are known by then."""

    def finish(self) -> np.ndarray:
        """Nothing follows: the samples that are left."""


class SpeechCodec(Protocol):
    """Speech to a few numbers a second and back, so that a language model can read and write it."""

    codes: int
    """There are codes 0 to `codes` - 1."""
    rate: int
    """Samples a second of what is read aloud."""
    seconds: float
    """Of sound, for each code."""
    patterns: Tensor
    """[codes, size]: codes that sound alike have rows that are alike."""

    def codes_of(self, sounds: Sequence[np.ndarray]) -> list[list[int]]:
        """The codes of each sound, float samples at 16 kHz; as many as it has time for."""

    def read(self) -> CodeReader:
        """For one answer."""

    def save(self, directory: Path) -> None:
        """Write all of it; `load_codec` reads it."""


def load_codec(directory: Path) -> SpeechCodec:
    """What `save` wrote. Raises LifecycleError where there is no codec, or a damaged one."""
    from lifecycle.speak.codec import Codec
    from lifecycle.speak.neural import NeuralCodec

    directory = Path(directory)
    return NeuralCodec.load(directory) if (directory / "config.json").is_file() else Codec.load(directory)
