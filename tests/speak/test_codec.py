"""Sound becomes codes and comes back, and patterns only get nearer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lifecycle.evaluation.distance import edits
from lifecycle.evaluation.hearing import nearest
from lifecycle.speak.codec import BANDS, CODES, SAMPLES_PER_CODE, STRIDE, Codec, blocks, lloyd
from lifecycle.speak.data import heard_codes, padded
from lifecycle.speak.sound import HOP, levelled, spectrogram, waveform
from lifecycle.world.speech import ANSWERER, RATE, recordings


def hum(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(np.arange(int(RATE * seconds)) / RATE * 2 * np.pi * hertz)).astype(np.float32)


@pytest.fixture(scope="module")
def spoken() -> list[np.ndarray]:
    return [recordings(ANSWERER)[text] for text in ("Seven.", "Mary.", "What does a cat say?", "A cat says meow.")]


@pytest.fixture(scope="module")
def learnt(spoken) -> tuple[torch.Tensor, list]:
    x = torch.cat([blocks(spectrogram(padded([levelled(sound)])))[0] for sound in spoken])
    return x, list(lloyd(x, 24, 8, seed=0))


def test_patterns_get_nearer_in_every_round_and_each_is_the_mean_of_its_own(learnt):
    x, rounds = learnt
    distances = [distance for _, distance in rounds]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.9 * distances[0]
    settled, _ = list(lloyd(x, 24, 60, seed=0))[-1]
    owner = Codec(settled).encode(x.unflatten(1, (STRIDE, BANDS)).flatten(0, 1).mT[None])[0]
    for code in owner.unique().tolist():
        torch.testing.assert_close(settled[code], x[owner == code].mean(0), rtol=1e-4, atol=1e-4)


def test_what_a_code_stands_for_is_taken_for_that_code(learnt):
    codec = Codec(learnt[1][-1][0])
    codes = torch.arange(24)[None]
    mel = codec.decode(codes)
    assert mel.shape == (1, BANDS, 24 * STRIDE)
    assert torch.equal(codec.encode(mel), codes)


def test_silence_is_zero_and_a_louder_sound_is_higher():
    assert spectrogram(torch.zeros(1, RATE)).abs().max() == 0
    quiet, loud = spectrogram(torch.from_numpy(np.stack([0.5 * hum(440), hum(440)])))
    assert (loud >= quiet - 1e-4).all()


def test_how_loud_it_was_is_left_behind():
    np.testing.assert_allclose(levelled(hum(440)), levelled(0.1 * hum(440)), rtol=1e-4)


def test_a_spectrogram_comes_back_as_a_sound_of_the_same_spectrogram():
    mel = spectrogram(torch.from_numpy(hum(440))[None])
    sound = waveform(mel)
    assert sound.shape == (1, RATE)
    back = spectrogram(sound)
    assert (back - mel)[..., 5:-5].abs().mean() < 0.1
    assert back.mean((0, 2)).argmax() == mel.mean((0, 2)).argmax()


def test_there_are_as_many_codes_as_a_sound_has_time_for_whatever_is_heard_beside_it(spoken, learnt):
    codec = Codec(learnt[1][-1][0])
    codes = heard_codes(codec, spoken)
    assert [len(row) for row in codes] == [-(-len(sound) // SAMPLES_PER_CODE) for sound in spoken]
    assert all(0 <= code < CODES for row in codes for code in row)
    for row, sound in zip(codes, spoken, strict=True):
        assert heard_codes(codec, [sound])[0][:-1] == row[:-1]  # the last may hear where the sound was cut off
        assert codec.decode(torch.tensor([row])).shape[-1] == len(row) * SAMPLES_PER_CODE // HOP


def test_saved_and_loaded_it_is_the_same(learnt, tmp_path):
    codec = Codec(learnt[1][-1][0])
    codec.save(tmp_path)
    assert torch.equal(Codec.load(tmp_path).patterns, codec.patterns)


def test_the_nearest_answer_takes_the_fewest_edits():
    assert edits([1, 2, 3], [1, 3]) == 1 and edits([], [1, 2]) == 2 and edits([1, 2], [2, 1]) == 2
    assert nearest([1, 2, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}) == "a"
    assert nearest([], {"a": [1]}) == ""
