"""A codec: speech to a few numbers a second and back, so that a language model can read and write it.

Four frames of a mel spectrogram at a time are taken for the nearest of some patterns, whose number is the code (vector
quantisation). The patterns are what k-means finds in recordings (Lloyd, 1982): each is the mean of what is nearest to it. Many
voices share them; read aloud is in one voice: each code as that voice sounds there, after the code before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lifecycle.errors import LifecycleError
from lifecycle.speak.sound import BANDS, HOP, RATE, Waves, spectrogram

STRIDE = 4
"""Frames of the spectrogram to one code."""
SAMPLES_PER_CODE = HOP * STRIDE
CODES = 1024
FILE = "model.safetensors"


@dataclass(frozen=True)
class Codec:
    """Spectrogram to codes and back."""

    patterns: Tensor
    """[CODES, STRIDE * BANDS]: what is heard is taken for the nearest of them."""
    alone: Tensor
    """[CODES, STRIDE * BANDS]: what a code sounds like after a code that it never followed."""
    pairs: Tensor
    """int64 [P], sorted: CODES * the code before (CODES at the beginning) + the code, of all that followed each other."""
    after: Tensor
    """[P, STRIDE * BANDS]: what the second of each pair sounds like."""

    codes: ClassVar[int] = CODES
    rate: ClassVar[int] = RATE
    seconds: ClassVar[float] = SAMPLES_PER_CODE / RATE

    @torch.inference_mode()
    def codes_of(self, sounds: Sequence[np.ndarray]) -> list[list[int]]:
        """As `SpeechCodec`."""
        codes = self.encode(spectrogram(padded(sounds)))
        return [row[: -(-len(sound) // SAMPLES_PER_CODE)].tolist() for row, sound in zip(codes, sounds, strict=True)]

    def read(self) -> Aloud:
        """As `SpeechCodec`."""
        return Aloud(self)

    def encode(self, mel: Tensor) -> Tensor:
        """[B, BANDS, T] to codes [B, ceil(T / STRIDE)] int64."""
        return nearest(blocks(mel), self.patterns)

    def decode(self, codes: Tensor, before: int = CODES) -> Tensor:
        """Codes [B, C] to [B, BANDS, C * STRIDE]; `before` is the code before them, CODES at the beginning."""
        first = torch.full_like(codes[:, :1], before)
        wanted = _pairs(torch.cat([first, codes[:, :-1]], 1), codes)
        found = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
        known = self.pairs[found] == wanted
        sound = torch.where(known[..., None], self.after[found], self.alone[codes])
        return sound.unflatten(-1, (STRIDE, BANDS)).flatten(1, 2).mT

    def save(self, directory: Path) -> None:
        """Write all of it; `load` reads it."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors = {name: getattr(self, name).contiguous() for name in PARTS}
        save_file(tensors, directory / FILE, metadata={"format": "pt"})

    @classmethod
    def load(cls, directory: Path) -> Codec:
        """What `save` wrote. Raises LifecycleError where there is no codec, or a damaged one."""
        file = Path(directory) / FILE
        try:
            tensors = load_file(file)
            codec = cls(**{name: tensors[name] for name in PARTS})
        except (OSError, SafetensorError, KeyError) as error:
            raise LifecycleError(f"{file} holds no codec for speech: {error}. lifecycle speak makes one") from None
        size = STRIDE * BANDS
        wanted = {"patterns": (CODES, size), "alone": (CODES, size), "after": (len(codec.pairs), size)}
        for name, shape in wanted.items():
            if tuple(tensors[name].shape) != shape:
                raise LifecycleError(f"{file}: {name} is {list(tensors[name].shape)}, not {list(shape)}. lifecycle speak makes another")
        return codec


PARTS = ("patterns", "alone", "pairs", "after")


class Aloud:
    """Reads one answer aloud: the same samples however its codes are cut up when they come."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._waves = Waves()
        self._last = CODES

    @torch.inference_mode()
    def push(self, codes: Sequence[int]) -> np.ndarray:
        """Further codes to the float samples at 16 kHz that are known by then."""
        if not codes:
            return np.zeros(0, np.float32)
        mel = self._codec.decode(torch.tensor([codes]), self._last)[0]
        self._last = codes[-1]
        return self._waves.push(mel).numpy()

    @torch.inference_mode()
    def finish(self) -> np.ndarray:
        """Nothing follows: the samples that are left."""
        return self._waves.finish().numpy()


def padded(sounds: Sequence[np.ndarray]) -> Tensor:
    """Samples of different lengths to [B, longest], silence after each, in whole codes."""
    longest = -(-max(map(len, sounds)) // SAMPLES_PER_CODE) * SAMPLES_PER_CODE
    return torch.from_numpy(np.stack([np.pad(sound, (0, longest - len(sound))) for sound in sounds]))


def voiced(patterns: Tensor, sounds: Iterable[Tensor]) -> Codec:
    """A codec with these patterns that reads aloud in the voice of some spectrograms, each [1, BANDS, T].

    What it says for a code is the mean of what the voice said there, after that other code.
    """
    heard = [blocks(sound)[0] for sound in sounds] or [patterns[:0]]
    codes = [nearest(x, patterns) for x in heard]
    start = torch.tensor([CODES])
    keys = torch.cat([_pairs(torch.cat([start, row[:-1]]), row) for row in codes])
    pairs, owner = keys.unique(return_inverse=True)
    x, code = torch.cat(heard), torch.cat(codes)
    said, alone = code.unique(), patterns.clone()
    alone[said] = means(x, code, len(patterns))[said]
    return Codec(patterns, alone, pairs, means(x, owner, len(pairs)))


def _pairs(before: Tensor, code: Tensor) -> Tensor:
    return before * CODES + code


def means(x: Tensor, owner: Tensor, count: int) -> Tensor:
    """The mean of those x [N, size] that each of `count` owners has: [count, size], zeros where it has none."""
    sums = x.new_zeros(count, x.shape[1]).index_add_(0, owner, x)
    return sums / torch.bincount(owner, minlength=count).clamp(min=1)[:, None]


def blocks(mel: Tensor) -> Tensor:
    """[B, BANDS, T] to what a code stands for: [B, ceil(T / STRIDE), STRIDE * BANDS]."""
    return F.pad(mel, (0, -mel.shape[-1] % STRIDE)).mT.unflatten(1, (-1, STRIDE)).flatten(2)


def nearest(x: Tensor, patterns: Tensor) -> Tensor:
    """The number of the pattern that is nearest to each of x [..., size]: int64 [...]."""
    return (patterns.square().sum(1) - 2 * x @ patterns.mT).argmin(-1)


def lloyd(x: Tensor, count: int, rounds: int, seed: int) -> Iterable[tuple[Tensor, float]]:
    """After each of some rounds of k-means on x [N, size]: the patterns [count, size], and how far from the nearest one x is.

    The distance, a mean of squares, is that before the round, and never grows. A pattern that nothing is nearest to becomes
    some x.
    """
    generator = torch.Generator().manual_seed(seed)
    patterns = x[torch.randperm(len(x), generator=generator)[:count]].clone()
    for _ in range(rounds):
        owner = nearest(x, patterns)
        distance = (x - patterns[owner]).square().mean().item()
        patterns = means(x, owner, count)
        lonely = torch.bincount(owner, minlength=count) == 0
        patterns[lonely] = x[torch.randint(len(x), (int(lonely.sum()),), generator=generator)]
        yield patterns, distance
