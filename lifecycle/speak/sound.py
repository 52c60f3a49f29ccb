"""Sound to a mel spectrogram and back: 80 bands, 100 frames a second, all in torch.

The way back is Griffin-Lim: phases that fit the magnitudes are found by going to sound and back again (Griffin and Lim, 1984;
with the momentum of Perraudin et al., 2013).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

RATE = 16_000
HOP = 160
BANDS = 80
WINDOW = 512
FLOOR = 0.05
"""Magnitudes below it are silence, which is 0 in a spectrogram: a floor that most noise stays below."""
SPREAD = 2.0
"""Standard deviation of the logarithms, about."""
LOUD = 0.13
"""What a tenth of the samples is louder than."""


@functools.cache
def filters() -> Tensor:
    """Triangles that are evenly spaced in mel (HTK's formula), each of area 1: [BANDS, WINDOW / 2 + 1]."""
    hertz = torch.linspace(0, RATE / 2, WINDOW // 2 + 1)
    top = 2595 * torch.log10(torch.tensor(1 + 7600 / 700))
    corners = 700 * (10 ** (torch.linspace(0, top.item(), BANDS + 2) / 2595) - 1)
    rising = (hertz - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - hertz) / (corners[2:] - corners[1:-1])[:, None]
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return triangles / triangles.sum(1, keepdim=True).clamp(min=1e-3)


def spectrogram(sound: Tensor) -> Tensor:
    """Samples [B, N] to normalised log magnitudes [B, BANDS, ceil(N / HOP)]."""
    sound = F.pad(sound, (0, -sound.shape[1] % HOP))
    magnitudes = torch.view_as_real(_stft(sound)[..., :-1]).square().sum(-1).sqrt()  # [B, bins, T]
    return ((filters() @ magnitudes).clamp(min=FLOOR).log() - math.log(FLOOR)) / SPREAD


def levelled(sound: np.ndarray) -> np.ndarray:
    """The same as loud as all others: its loud parts have one level."""
    return sound * (LOUD / max(np.quantile(np.abs(sound[::8]), 0.9), 1e-4)).astype(np.float32)


def waveform(mel: Tensor, iterations: int = 32) -> Tensor:
    """What `spectrogram` gave, [B, BANDS, T], to samples [B, T * HOP] that sound like it."""
    bands = (mel.float() * SPREAD).exp() * FLOOR
    magnitudes = (_inverse() @ bands).clamp(min=FLOOR)
    magnitudes = F.pad(magnitudes, (0, 1), mode="replicate")
    generator = torch.Generator().manual_seed(0)
    angles = torch.polar(torch.ones_like(magnitudes), torch.rand(magnitudes.shape, generator=generator) * 6.2832)
    before = torch.zeros_like(angles)
    for _ in range(iterations):
        found = _stft(_istft(magnitudes * angles))
        angles = found - 0.5 * before
        angles, before = angles / angles.abs().clamp(min=1e-8), found
    return _istft(magnitudes * angles)


@functools.cache
def _inverse() -> Tensor:
    """[bins, BANDS]: a bin gets what the bands that reach it have, weighted by how far they do."""
    reach = filters().mT
    return reach / reach.sum(1, keepdim=True).clamp(min=1e-3)


def _stft(sound: Tensor) -> Tensor:
    return torch.stft(sound, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True)


def _istft(spectrum: Tensor) -> Tensor:
    return torch.istft(spectrum, WINDOW, HOP, window=torch.hann_window(WINDOW))
