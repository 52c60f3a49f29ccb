"""Sound at another rate or speed, by FFmpeg's filters: nothing folds back into what is heard."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import numpy as np

from serving.application.speech import Audio
from serving.infrastructure.speech.checks import require


def resampled(audio: Audio, rate: int) -> Audio:
    """The same sound with `rate` samples a second. Raises `SpeechMissing` without PyAV."""
    if audio.rate == rate or not len(audio.samples):
        return Audio(np.asarray(audio.samples, np.float32), rate)
    resampler = Resampler(audio.rate, rate)
    return Audio(np.concatenate([resampler.push(audio.samples), resampler.flush()]), rate)


def at_speed(audio: Audio, speed: float) -> Audio:
    """The same sound `speed` times as fast (0.25 to 100), as high as before. Raises `SpeechMissing` without PyAV."""
    if speed == 1 or not len(audio.samples):
        return audio
    require("av")
    import av

    graph = av.filter.Graph()
    nodes = [graph.add_abuffer(sample_rate=audio.rate, format="flt", layout="mono", time_base=Fraction(1, audio.rate))]
    slowest = 0.5  # of one filter
    pace = [slowest, speed / slowest] if speed < slowest else [speed]
    nodes += [graph.add("atempo", f"{one:.6f}") for one in pace] + [graph.add("abuffersink")]
    graph.link_nodes(*nodes).configure()
    frame = av.AudioFrame.from_ndarray(np.asarray(audio.samples, np.float32)[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = audio.rate, 0, Fraction(1, audio.rate)
    graph.push(frame)
    graph.push(None)
    pieces = []
    with suppress(av.error.EOFError, av.error.BlockingIOError):
        while True:
            pieces.append(graph.pull().to_ndarray()[0])
    return Audio(np.concatenate(pieces) if pieces else np.zeros(0, np.float32), audio.rate)


class Resampler:
    """The same piece by piece, for sound that is still being made."""

    def __init__(self, source: int, target: int) -> None:
        require("av")
        import av

        self._av, self._source = av, source
        self._resampler = av.AudioResampler(format="flt", layout="mono", rate=target)

    def push(self, samples: Any) -> Any:
        """float32 [n] at the source's rate to what is ready at the target's."""
        if not len(samples):
            return np.zeros(0, np.float32)
        frame = self._av.AudioFrame.from_ndarray(np.asarray(samples, np.float32)[None], format="flt", layout="mono")
        frame.sample_rate = self._source
        return self._joined(self._resampler.resample(frame))

    def flush(self) -> Any:
        """What is left at the end."""
        return self._joined(self._resampler.resample(None))

    @staticmethod
    def _joined(frames: list[Any]) -> Any:
        return np.concatenate([frame.to_ndarray()[0] for frame in frames]) if frames else np.zeros(0, np.float32)
