"""Sound at another rate, by FFmpeg's resampler: filtered, so that nothing folds back into what is heard."""

from __future__ import annotations

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
