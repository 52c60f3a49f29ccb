"""Sound as it travels."""

import warnings

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.infrastructure.wire_formats import Resampler, a_law, mu_law, wire_formats

FORMATS = wire_formats()


def sine(rate: int, pitch: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize(("law", "decode"), [(mu_law, "ulaw2lin"), (a_law, "alaw2lin")])
def test_every_byte_of_g711_means_what_the_standard_says(law, decode):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audioop = pytest.importorskip("audioop")
    assert law().tolist() == np.frombuffer(getattr(audioop, decode)(bytes(range(256)), 2), "<i2").tolist()


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_sent_is_what_arrives(name):
    format = FORMATS[name]
    there = format.encode(Audio(sine(24000), 24000))
    back = format.decode(there)
    assert back.rate == format.rate and len(there) == len(back.samples) * format.width
    assert np.abs(back.samples - sine(format.rate))[100:-100].max() < (0.02 if format.width == 1 else 0.001)


@pytest.mark.parametrize("name", FORMATS)
def test_every_byte_survives_the_way_back(name):
    format = FORMATS[name]
    data = bytes(range(256)) * 4
    again = format.encode(format.decode(data))
    assert np.array_equal(format.samples(again), format.samples(data)) or name == "audio/pcm"
    assert np.abs(format.samples(again) - format.samples(data)).max() < 1e-4


@pytest.mark.parametrize("size", [1, 7, 480, 5000])
@pytest.mark.parametrize(("source", "target"), [(24000, 16000), (8000, 16000), (24000, 8000)])
def test_piece_by_piece_is_the_same_as_at_once(size, source, target):
    samples, pieces = sine(source), Resampler(source, target)
    joined = np.concatenate([pieces.push(samples[at : at + size]) for at in range(0, len(samples), size)])
    np.testing.assert_allclose(joined, Resampler(source, target).push(samples), atol=1e-6)
    assert len(joined) == len(samples) * target // source


def test_what_is_too_high_for_the_slower_rate_is_silenced():
    assert np.abs(Resampler(24000, 8000).push(sine(24000, pitch=9000)))[50:].max() < 0.01
