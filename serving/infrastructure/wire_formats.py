"""How sound travels over a live connection: 16-bit PCM at 24 kHz, or telephone speech after ITU-T G.711 at 8 kHz."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import Any

import numpy as np

from serving.application.live.ports import SoundFormat
from serving.application.speech import Audio

TAPS = 16
"""Of the low-pass filter, on either side and in samples of the slower rate."""
LOUDEST = 32767


class Resampler:
    """float32 samples at one rate to another, as they come: a windowed sinc, in `up` phases.

    What comes out lags behind by the filter's half length.
    """

    def __init__(self, source: int, target: int) -> None:
        common = gcd(source, target)
        self._up, self._down = target // common, source // common
        half = TAPS * max(1.0, source / target)
        self._length = 2 * int(np.ceil(half)) + 1
        cutoff = 0.92 * min(1.0, target / source)
        at = np.arange(self._length)[None] - (self._length // 2 + np.arange(self._up)[:, None] / self._up)
        window = 0.5 + 0.5 * np.cos(np.pi * np.clip(at / (half + 1), -1, 1))
        taps = cutoff * np.sinc(cutoff * at) * window
        self._taps = (taps / taps.sum(1, keepdims=True)).astype(np.float32)
        self._past = np.zeros(self._length - 1, np.float32)
        self._next = 0  # the next sample that comes out, in steps of 1 / up, since the first of `_past`

    def push(self, samples: Any) -> Any:
        """float32 [n] to float32 [about n * target / source]."""
        heard = np.concatenate([self._past, np.asarray(samples, np.float32)])
        count = max(0, -(-((len(heard) - self._length + 1) * self._up - self._next) // self._down))
        steps = self._next + self._down * np.arange(count)
        whole, phase = np.divmod(steps, self._up)
        windows = np.lib.stride_tricks.sliding_window_view(heard, self._length)[whole] if count else np.zeros((0, self._length))
        found = np.einsum("nt,nt->n", windows, self._taps[phase]).astype(np.float32)
        kept = self._length - 1
        self._next += self._down * count - self._up * (len(heard) - kept)
        self._past = heard[len(heard) - kept :]
        return found


def resample(samples: Any, source: int, target: int) -> Any:
    """All at once, without the lag."""
    if source == target or not len(samples):
        return np.asarray(samples, np.float32)
    resampler = Resampler(source, target)
    lag = resampler._length // 2
    count = -(-len(samples) * target // source)
    return resampler.push(np.concatenate([samples, np.zeros(lag, np.float32)]))[-count:]


class _Reader:
    def __init__(self, format: _Format, rate: int) -> None:
        self._format = format
        self._resampler = None if rate == format.rate else Resampler(format.rate, rate)

    def push(self, data: bytes) -> Any:
        """As `SoundReader`."""
        samples = self._format.samples(data)
        return samples if self._resampler is None else self._resampler.push(samples)


class _Format:
    """As `SoundFormat`; what is left is `samples`, from bytes to float32 between -1 and 1, and `bytes`, the other way round."""

    def reader(self, rate: int) -> _Reader:
        """As `SoundFormat`."""
        return _Reader(self, rate)

    def decode(self, data: bytes) -> Audio:
        """As `SoundFormat`."""
        return Audio(self.samples(data), self.rate)

    def encode(self, audio: Audio) -> bytes:
        """As `SoundFormat`."""
        return self.bytes(np.clip(resample(audio.samples, audio.rate, self.rate), -1, 1))


class Pcm16(_Format):
    """Little-endian."""

    name, rate, width = "audio/pcm", 24000, 2

    def samples(self, data: bytes) -> Any:
        return np.frombuffer(data, "<i2").astype(np.float32) / 32768

    def bytes(self, samples: Any) -> bytes:
        return np.round(samples * LOUDEST).astype("<i2").tobytes()


class G711(_Format):
    """By tables: 256 steps that are fine where it is quiet. A sample becomes the step that is nearest."""

    rate, width = 8000, 1

    def __init__(self, name: str, steps: Any) -> None:
        self.name = name
        self._steps = (steps / 32768).astype(np.float32)
        order = np.argsort(steps, kind="stable")
        self._order = order.astype(np.uint8)
        self._bounds = (self._steps[order][1:] + self._steps[order][:-1]) / 2

    def samples(self, data: bytes) -> Any:
        return self._steps[np.frombuffer(data, np.uint8)]

    def bytes(self, samples: Any) -> bytes:
        return self._order[np.searchsorted(self._bounds, samples)].tobytes()


def mu_law() -> Any:
    """int [256]: what each byte of mu-law stands for, of 32768."""
    byte = ~np.arange(256) & 0xFF
    size = (((byte & 0x0F) << 3) + 0x84 << ((byte & 0x70) >> 4)) - 0x84
    return np.where(byte & 0x80, -size, size)


def a_law() -> Any:
    """int [256]: the same of A-law."""
    byte = np.arange(256) ^ 0x55
    segment, step = (byte & 0x70) >> 4, (byte & 0x0F) << 4
    size = np.where(segment == 0, step + 8, step + 0x108 << np.maximum(segment - 1, 0))
    return np.where(byte & 0x80, size, -size)


def wire_formats() -> Mapping[str, SoundFormat]:
    """All there are, by name."""
    formats = (Pcm16(), G711("audio/pcmu", mu_law()), G711("audio/pcma", a_law()))
    return {format.name: format for format in formats}
