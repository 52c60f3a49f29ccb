"""Neural codecs of transformers, Mimi (arXiv:2410.00037) and EnCodec (arXiv:2210.13438), by directory or hub name.

A frame of theirs is one code of each of several codebooks, from coarse to fine. The language model reads and writes them one
after the other, and each codebook has codes of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lifecycle.errors import LifecycleError
from lifecycle.speak.sound import RATE

BOOKS = "speech_codebooks"
"""Where a saved configuration has how many of the codebooks are used."""
GROUP, CONTEXT = 0.1, 10.0
"""Seconds of sound that are made at a time at least, and that are looked back at."""
REFLECTED = 8
"""Frames that the first sound of a codec depends on which mirrors its beginning instead of adding silence before it."""


class NeuralCodec(ABC):
    """A `SpeechCodec`; what the families do in their own way is abstract."""

    def __init__(self, model: Any, books: int) -> None:
        config = model.config
        if config.audio_channels != 1 or getattr(config, "chunk_length_s", None) or getattr(config, "normalize", False):
            raise LifecycleError("a codec for speech has one channel, and neither chunks nor levels: take facebook/encodec_24khz or kyutai/mimi")
        if not 1 <= books <= config.num_quantizers:
            raise LifecycleError(f"codebooks must be between 1 and {config.num_quantizers}, which this codec has, not {books}")
        self._model = model.float().eval().requires_grad_(False)
        self.books, self.size = books, config.codebook_size
        self.rate = config.sampling_rate
        self.samples_per_frame = round(config.sampling_rate / config.frame_rate)
        self.reflects = getattr(config, "pad_mode", "constant") == "reflect"
        self.codes = self.books * self.size
        self.seconds = self.samples_per_frame / self.rate / self.books

    @property
    def patterns(self) -> Tensor:
        """As `SpeechCodec`: the entries of the codebooks."""
        return torch.cat([layer.codebook.embed for layer in self.layers()[: self.books]])

    @torch.inference_mode()
    def codes_of(self, sounds: Sequence[np.ndarray]) -> list[list[int]]:
        """As `SpeechCodec`."""
        return [self._codes(at_rate(sound, self.rate)) for sound in sounds]

    def read(self) -> NeuralReader:
        """As `SpeechCodec`."""
        return NeuralReader(self)

    @torch.inference_mode()
    def decode(self, frames: Sequence[Sequence[int]]) -> np.ndarray:
        """Frames, a code of each codebook's own in each, to `samples_per_frame` samples for each."""
        told = self.voiced(torch.tensor(frames).T[None])
        return told[0, 0, : len(frames) * self.samples_per_frame].numpy()

    def save(self, directory: Path) -> None:
        """As `SpeechCodec`."""
        setattr(self._model.config, BOOKS, self.books)
        self._model.save_pretrained(directory)

    @classmethod
    def load(cls, ref: str | Path, books: int | None = None) -> NeuralCodec:
        """Of a directory or the hub; without `books`, what `save` wrote. Raises LifecycleError."""
        from transformers import AutoConfig, AutoModel

        try:
            config = AutoConfig.from_pretrained(ref)
            if config.model_type not in FAMILIES:
                raise LifecycleError(f"{ref} is a model of the type {config.model_type}: a codec is one of {', '.join(FAMILIES)}")
            model = AutoModel.from_pretrained(ref)
        except (OSError, ValueError) as error:
            raise LifecycleError(f"{ref} holds no codec that can be loaded here: {str(error).strip().splitlines()[0]}") from None
        return FAMILIES[config.model_type](model, getattr(config, BOOKS, 0) if books is None else books)

    def _codes(self, sound: np.ndarray) -> list[int]:
        sound = np.pad(sound, (0, -len(sound) % self.samples_per_frame))
        found = self.heard(torch.from_numpy(sound)[None, None])
        return (found.T + self.size * torch.arange(self.books)).flatten().tolist()

    @abstractmethod
    def layers(self) -> list[Any]:
        """The model's quantizers, from coarse to fine."""

    @abstractmethod
    def heard(self, samples: Tensor) -> Tensor:
        """Samples [1, 1, N] in whole frames to the model's own codes, [books, frames]."""

    @abstractmethod
    def voiced(self, codes: Tensor) -> Tensor:
        """The model's own codes [1, books, frames] to samples [1, 1, N]."""


class Mimi(NeuralCodec):
    """Its first codebook is of what is said, the others of how it sounds."""

    def layers(self) -> list[Any]:
        """As `NeuralCodec`."""
        quantizer = self._model.quantizer
        return [*quantizer.semantic_residual_vector_quantizer.layers, *quantizer.acoustic_residual_vector_quantizer.layers]

    def heard(self, samples: Tensor) -> Tensor:
        """As `NeuralCodec`."""
        return self._model.encode(samples, num_quantizers=self.books).audio_codes[0]

    def voiced(self, codes: Tensor) -> Tensor:
        """As `NeuralCodec`."""
        return self._model.decode(codes).audio_values


class Encodec(NeuralCodec):
    """How many codebooks it uses follows from a bandwidth."""

    def layers(self) -> list[Any]:
        """As `NeuralCodec`."""
        return list(self._model.quantizer.layers)

    def heard(self, samples: Tensor) -> Tensor:
        """As `NeuralCodec`."""
        return self._model.encode(samples, bandwidth=self._bandwidth()).audio_codes[0, 0, : self.books]

    def voiced(self, codes: Tensor) -> Tensor:
        """As `NeuralCodec`."""
        return self._model.decode(codes[None], [None]).audio_values

    def _bandwidth(self) -> float:
        """The smallest that has all the codebooks."""
        enough = self._model.quantizer.get_num_quantizers_for_bandwidth
        return next(width for width in sorted(self._model.config.target_bandwidths) if enough(width) >= self.books)


FAMILIES: dict[str, type[NeuralCodec]] = {"mimi": Mimi, "encodec": Encodec}
"""By the model's type in transformers."""


class NeuralReader:
    """A `CodeReader`. A code that is not of the codebook whose turn it is is left out."""

    def __init__(self, codec: NeuralCodec) -> None:
        self._codec = codec
        self._frames: list[list[int]] = []
        self._begun: list[int] = []
        self._read = 0
        seconds = codec.samples_per_frame / codec.rate
        self._group, self._context = max(1, round(GROUP / seconds)), round(CONTEXT / seconds)

    def push(self, codes: Sequence[int]) -> np.ndarray:
        """As `CodeReader`."""
        for code in codes:
            book, entry = divmod(code, self._codec.size)
            if book == len(self._begun):
                self._begun.append(entry)
            if len(self._begun) == self._codec.books:
                self._frames.append(self._begun)
                self._begun = []
        first = self._codec.reflects and not self._read
        return self._sound(max(self._group, REFLECTED) if first else self._group)

    def finish(self) -> np.ndarray:
        """As `CodeReader`."""
        return self._sound(1)

    def _sound(self, least: int) -> np.ndarray:
        """Of all frames that were not read yet, where there are so many of them."""
        if len(self._frames) - self._read < least:
            return np.zeros(0, np.float32)
        since = max(0, self._read - self._context)
        sound = self._codec.decode(self._frames[since:])
        new = sound[(self._read - since) * self._codec.samples_per_frame :]
        self._read = len(self._frames)
        return new


def at_rate(sound: np.ndarray, rate: int) -> np.ndarray:
    """A whole sound, float samples at 16 kHz, as `rate` of them a second: the same spectrum, cut off or filled up."""
    count = round(len(sound) * rate / RATE)
    return (np.fft.irfft(np.fft.rfft(sound), count) * (count / len(sound))).astype(np.float32)
