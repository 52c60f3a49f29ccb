"""Sound to a mel spectrogram and back: 80 bands, 100 frames a second, all in torch.

The way back is Griffin-Lim: phases that fit the magnitudes are found by going to sound and back again (Griffin and Lim, 1984;
with the momentum of Perraudin et al., 2013), a few frames after the other, so that speech can be heard while it is still being written.
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
GROUP, AHEAD, REACH = 16, 8, 4
"""Frames whose phases are found together, that are looked at beyond them, and that overlap with what comes next."""
ITERATIONS = 32


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


def waveform(mel: Tensor) -> Tensor:
    """What `spectrogram` gave, [BANDS, T], to samples [T * HOP] that sound like it."""
    waves = Waves()
    return torch.cat([waves.push(mel), waves.finish()])


class Waves:
    """The way back as a stream: the same samples however the spectrogram is cut up when it comes.

    Phases are found for `GROUP` frames at a time that fit those found before, which stay as they are, and the `AHEAD` frames
    that follow (Zhu, Beauregard and Wyse, 2007). A sample leaves when all frames that reach it have their phases.
    """

    def __init__(self) -> None:
        self._waiting = torch.zeros(BANDS, 0)  # frames without phases
        self._found = torch.zeros(WINDOW // 2 + 1, 0, dtype=torch.complex64)  # the last of those with
        self._sum = torch.zeros(WINDOW)  # of windowed frames, from the first sample that has not left on
        self._weight = torch.zeros(WINDOW)
        self._silent = WINDOW // 2  # samples before the beginning
        self._generator = torch.Generator().manual_seed(0)

    def push(self, mel: Tensor) -> Tensor:
        """Further frames [BANDS, t] to the samples that are known by then."""
        self._waiting = torch.cat([self._waiting, mel.float()], 1)
        done = [torch.zeros(0)]
        while self._waiting.shape[1] >= GROUP + AHEAD:
            done.append(self._settle(GROUP))
        return torch.cat(done)

    def finish(self) -> Tensor:
        """Nothing follows: the samples that are left."""
        done = [torch.zeros(0)]
        if self._waiting.shape[1]:
            self._waiting = torch.cat([self._waiting, self._waiting[:, -1:]], 1)
            while count := min(GROUP, self._waiting.shape[1]):
                done.append(self._settle(count))
            done.append(self._leave(WINDOW // 2 - HOP))
        return torch.cat(done)

    def _settle(self, count: int) -> Tensor:
        """Phases for so many frames, and the samples that they complete."""
        bands = (self._waiting[:, : count + AHEAD] * SPREAD).exp() * FLOOR
        magnitudes = (_inverse() @ bands).clamp(min=FLOOR)
        before = self._found.shape[1]
        turns = torch.rand(magnitudes.shape, generator=self._generator) * 6.2832
        spectrum = torch.cat([self._found, torch.polar(magnitudes, turns)], 1)
        last = torch.zeros_like(magnitudes)
        for _ in range(ITERATIONS):
            again = _frames(_overlapped(spectrum) / _weights(spectrum.shape[1]))[:, before:]
            angles = again - 0.5 * last
            spectrum = torch.cat([self._found, magnitudes * angles / angles.abs().clamp(min=1e-8)], 1)
            last = again
        settled = spectrum[:, before : before + count]
        self._waiting = self._waiting[:, count:]
        self._found = spectrum[:, : before + count][:, -REACH:]
        length = (count - 1) * HOP + WINDOW
        self._sum = F.pad(self._sum, (0, length - len(self._sum)))
        self._weight = F.pad(self._weight, (0, length - len(self._weight)))
        self._sum += _overlapped(settled)
        self._weight += _weights(count)
        return self._leave(count * HOP)

    def _leave(self, count: int) -> Tensor:
        sound = self._sum[:count] / self._weight[:count].clamp(min=1e-8)
        self._sum, self._weight = self._sum[count:], self._weight[count:]
        silent = min(self._silent, count)
        self._silent -= silent
        return sound[silent:]


def _overlapped(spectrum: Tensor) -> Tensor:
    """The windowed sum of frames [bins, n]: [(n - 1) * HOP + WINDOW]."""
    return _added(torch.fft.irfft(spectrum, WINDOW, dim=0) * _window()[:, None])


@functools.lru_cache(64)
def _weights(count: int) -> Tensor:
    """What n windowed frames weigh in their sum."""
    return _added(_window().square()[:, None].expand(-1, count).contiguous()).clamp(min=1e-8)


def _added(frames: Tensor) -> Tensor:
    length = (frames.shape[1] - 1) * HOP + WINDOW
    return F.fold(frames[None], (1, length), (1, WINDOW), stride=(1, HOP))[0, 0, 0]


def _frames(sound: Tensor) -> Tensor:
    return torch.fft.rfft(sound.unfold(0, WINDOW, HOP) * _window(), dim=1).mT


@functools.cache
def _window() -> Tensor:
    return torch.hann_window(WINDOW)


@functools.cache
def _inverse() -> Tensor:
    """[bins, BANDS]: a bin gets what the bands that reach it have, weighted by how far they do."""
    reach = filters().mT
    return reach / reach.sum(1, keepdim=True).clamp(min=1e-3)


def _stft(sound: Tensor) -> Tensor:
    return torch.stft(sound, WINDOW, HOP, window=_window(), return_complex=True)
