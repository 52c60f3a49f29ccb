"""A codec: speech to a few numbers a second and back, so that a language model can read and write it.

Four frames of a mel spectrogram at a time are taken for the nearest of some patterns, whose number is the code (vector
quantisation). The patterns are what k-means finds in recordings (Lloyd, 1982): each is the mean of what is nearest to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lifecycle.speak.sound import BANDS, HOP

STRIDE = 4
"""Frames of the spectrogram to one code."""
SAMPLES_PER_CODE = HOP * STRIDE
CODES = 1024
FILE = "model.safetensors"


class Codec:
    """Spectrogram to codes and back."""

    def __init__(self, patterns: Tensor) -> None:
        self.patterns = patterns
        """[CODES, STRIDE * BANDS]."""

    def encode(self, mel: Tensor) -> Tensor:
        """[B, BANDS, T] to codes [B, ceil(T / STRIDE)] int64."""
        return nearest(blocks(mel), self.patterns)

    def decode(self, codes: Tensor) -> Tensor:
        """Codes [B, C] to [B, BANDS, C * STRIDE]."""
        return self.patterns[codes].unflatten(-1, (STRIDE, BANDS)).flatten(1, 2).mT

    def save(self, directory: Path) -> None:
        """Write the patterns; `load` reads them."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file({"patterns": self.patterns.contiguous()}, directory / FILE, metadata={"format": "pt"})

    @classmethod
    def load(cls, directory: Path) -> Codec:
        """What `save` wrote."""
        return cls(load_file(directory / FILE)["patterns"])


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
        sizes = torch.bincount(owner, minlength=count)
        patterns = torch.zeros_like(patterns).index_add_(0, owner, x) / sizes.clamp(min=1)[:, None]
        lonely = sizes == 0
        patterns[lonely] = x[torch.randint(len(x), (int(lonely.sum()),), generator=generator)]
        yield patterns, distance
