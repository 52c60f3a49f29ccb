"""Sound as files that are written piece by piece: each piece leaves as soon as its sentence has been spoken."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from serving.application.speech import Audio
from serving.infrastructure.speech.checks import require
from serving.infrastructure.speech.resampling import Resampler

PCM_RATE = 24000
"""Of raw samples, as OpenAI's."""
FORMATS = {
    "wav": None, "pcm": None,
    "mp3": ("mp3", "libmp3lame", "s16p", 24000), "opus": ("ogg", "libopus", "flt", 48000),
    "flac": ("flac", "flac", "s16", 24000), "aac": ("adts", "aac", "fltp", 24000),
}  # fmt: skip
"""Name to FFmpeg's muxer and encoder, the form of its samples and their rate."""


def write_sound(name: str, rate: int, pieces: Iterable[Audio], count: int | None = None) -> Iterator[bytes]:
    """A file of one of `FORMATS`; every piece of sound is at `rate`. What the encoder keeps back comes with the next one.

    `count`: how many samples there will be, where that is known; a WAV file says so in its head.
    """
    if name == "wav":
        yield wav_header(rate, None if count is None else 2 * count)
        for piece in pieces:
            yield pcm16(piece.samples)
    elif name == "pcm":
        yield from _raw(rate, pieces)
    else:
        yield from _encoded(name, rate, pieces)


def pcm16(samples: Any) -> bytes:
    """Float samples as 16 bits each, the lower byte first."""
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def wav_header(rate: int, size: int | None = None) -> bytes:
    """Of 16-bit samples; without a size in bytes, as programs write it that do not know the end yet."""
    whole = 0xFFFFFFFF if size is None else size + 36
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", whole, b"WAVE") + form + struct.pack("<4sI", b"data", 0xFFFFFFFF if size is None else size)


def _raw(rate: int, pieces: Iterable[Audio]) -> Iterator[bytes]:
    if rate == PCM_RATE:
        yield from (pcm16(piece.samples) for piece in pieces)
        return
    resampler = Resampler(rate, PCM_RATE)
    for piece in pieces:
        yield pcm16(resampler.push(piece.samples))
    yield pcm16(resampler.flush())


def _encoded(name: str, rate: int, pieces: Iterable[Audio]) -> Iterator[bytes]:
    require("av")
    import av

    muxer, codec, form, target = FORMATS[name]
    sink = Sink()
    resampler = Resampler(rate, target)
    options = {"flush_packets": "1"} | ({"page_duration": "200000"} if muxer == "ogg" else {})  # 0.2 seconds
    with av.open(sink, "w", format=muxer, buffer_size=1024, container_options=options) as container:
        stream = container.add_stream(codec, rate=target, layout="mono")
        stream.codec_context.format = form
        fit = av.AudioResampler(form, "mono", target, stream.codec_context.frame_size or 1024)
        for samples in _resampled(resampler, pieces):
            for frame in fit.resample(_frame(av, samples, target)) if len(samples) else ():
                container.mux(stream.encode(frame))
            if written := sink.take():
                yield written
        for frame in fit.resample(None):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    yield sink.take()


def _resampled(resampler: Resampler, pieces: Iterable[Audio]) -> Iterator[Any]:
    for piece in pieces:
        yield resampler.push(piece.samples)
    yield resampler.flush()


def _frame(av: Any, samples: Any, rate: int) -> Any:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    return frame


class Sink:
    """A file that can only be written to."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """All of it."""
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._pieces = b"".join(self._pieces), []
        return taken
