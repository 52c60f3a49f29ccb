"""The rewritten voice computes what the file says, with less silence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from serving.infrastructure.speech import kokoro_ranges
from serving.infrastructure.speech.convolutions import SILENT, quick
from serving.infrastructure.speech.files import find
from serving.infrastructure.speech.kokoro_reader import Reader
from serving.infrastructure.speech.onnx import session
from tests.serving.speech.voices import voice_config


def _directory() -> Path:
    return Path(voice_config().voice_dir)


@pytest.fixture(scope="module")
def models():
    """(as in the file, rewritten)."""
    file = find("kokoro.onnx", _directory())
    return session(file, 1), session(quick(file, kokoro_ranges.load()), 1)


def spectrum(samples) -> np.ndarray:
    """Loudness in bands, by 20 ms: [frames, 32], in dB and not below what is heard."""
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples).reshape(-1), 1024)[::480] * np.hanning(1024)
    power = (np.abs(np.fft.rfft(frames)) ** 2)[:, 1:].reshape(len(frames), 32, -1).mean(2)
    return 10 * np.log10(power + 1e-1)


def test_other_operators_say_the_same_with_less_silence(models):
    before, after = models
    reader = Reader(_directory())
    (signs,) = reader.parts("Seven green boxes.")
    inputs = reader.inputs(signs, "af_heart", 1.0)
    silent = reader.silent(inputs["tokens"])
    samples = before.run(None, inputs)[0]
    expected = spectrum(samples)
    found = spectrum(after.run(None, {**inputs, SILENT: 0 * silent})[0])
    assert found.shape == expected.shape, "every sound lasts as long"
    assert np.abs(found - expected).mean() < 2.5
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.97
    shorter = after.run(None, {**inputs, SILENT: silent})[0]
    assert 0.15 < (samples.size - shorter.size) / 24000 < 0.8
    lasts = [np.ptp(np.flatnonzero(np.abs(one.reshape(-1)) > 0.02)) / 24000 for one in (samples, shorter)]
    assert lasts[1] > lasts[0] - 0.06, "nothing of what is said is lost"
