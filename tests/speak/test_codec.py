"""Sound becomes codes and comes back, and patterns only get nearer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lifecycle.errors import LifecycleError
from lifecycle.evaluation.distance import edits
from lifecycle.evaluation.hearing import nearest
from lifecycle.speak.codec import (
    BANDS,
    CODES,
    FILE,
    SAMPLES_PER_CODE,
    STRIDE,
    Aloud,
    Codec,
    blocks,
    lloyd,
    padded,
    voiced,
)
from lifecycle.speak.data import heard_codes
from lifecycle.speak.sound import HOP, Waves, levelled, spectrogram, waveform
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


@pytest.fixture(scope="module")
def codec(learnt, spoken) -> Codec:
    patterns = torch.full((CODES, STRIDE * BANDS), 100.0)
    patterns[:24] = learnt[1][-1][0]
    return voiced(patterns, [spectrogram(padded([levelled(sound)])) for sound in spoken])


def test_patterns_get_nearer_in_every_round_and_each_is_the_mean_of_its_own(learnt):
    x, rounds = learnt
    distances = [distance for _, distance in rounds]
    assert distances == sorted(distances, reverse=True) and distances[-1] < 0.9 * distances[0]
    settled, _ = list(lloyd(x, 24, 60, seed=0))[-1]
    owner = voiced(settled, []).encode(x.unflatten(1, (STRIDE, BANDS)).flatten(0, 1).mT[None])[0]
    for code in owner.unique().tolist():
        torch.testing.assert_close(settled[code], x[owner == code].mean(0), rtol=1e-4, atol=1e-4)


def test_a_code_is_read_aloud_as_the_voice_said_it_after_the_code_before(codec, spoken):
    mels = [spectrogram(padded([levelled(sound)])) for sound in spoken]
    codes = [codec.encode(mel)[0].tolist() for mel in mels]
    said: dict[tuple[int, int], list[torch.Tensor]] = {}
    for mel, row in zip(mels, codes, strict=True):
        for before, code, block in zip([CODES, *row], row, blocks(mel)[0], strict=False):
            said.setdefault((before, code), []).append(block)
    read = blocks(codec.decode(torch.tensor([codes[3]])))[0]
    for before, code, block in zip([CODES, *codes[3]], codes[3], read, strict=False):
        torch.testing.assert_close(block, torch.stack(said[before, code]).mean(0), rtol=1e-4, atol=1e-4)


def test_what_the_voice_never_said_is_read_as_its_pattern(codec):
    unused = next(code for code in range(CODES - 1, -1, -1) if code not in set((codec.pairs % CODES).tolist()))
    read = blocks(codec.decode(torch.tensor([[unused, unused]])))[0]
    torch.testing.assert_close(read, codec.patterns[[unused, unused]])


def test_silence_is_zero_and_a_louder_sound_is_higher():
    assert spectrogram(torch.zeros(1, RATE)).abs().max() == 0
    quiet, loud = spectrogram(torch.from_numpy(np.stack([0.5 * hum(440), hum(440)])))
    assert (loud >= quiet - 1e-4).all()


def test_how_loud_it_was_is_left_behind():
    np.testing.assert_allclose(levelled(hum(440)), levelled(0.1 * hum(440)), rtol=1e-4)


def test_a_spectrogram_comes_back_as_a_sound_of_the_same_spectrogram():
    mel = spectrogram(torch.from_numpy(hum(440))[None])
    sound = waveform(mel[0])
    assert sound.shape == (RATE,)
    back = spectrogram(sound[None])
    assert (back - mel)[..., 5:-5].abs().mean() < 0.1
    assert back.mean((0, 2)).argmax() == mel.mean((0, 2)).argmax()


@pytest.mark.parametrize("size", [1, 7, 24, 1000])
def test_a_spectrogram_that_comes_in_pieces_sounds_the_same(spoken, size):
    mel = spectrogram(padded(spoken))[3]
    waves = Waves()
    pieces = [waves.push(mel[:, at : at + size]) for at in range(0, mel.shape[1], size)]
    assert len(pieces) < 2 or any(map(len, pieces)), "sound is heard before the end"
    assert torch.equal(torch.cat([*pieces, waves.finish()]), waveform(mel))


def test_codes_that_come_in_pieces_sound_the_same(codec):
    codes = torch.randint(24, (40,), generator=torch.Generator().manual_seed(0)).tolist()
    whole, pieces = Aloud(codec), Aloud(codec)
    once = [whole.push(codes), whole.finish()]
    one_by_one = [*(pieces.push([code]) for code in codes), pieces.push([]), pieces.finish()]
    np.testing.assert_array_equal(np.concatenate(once), np.concatenate(one_by_one))
    assert sum(map(len, once)) == 40 * SAMPLES_PER_CODE


def test_nothing_sounds_like_nothing(codec):
    aloud = Aloud(codec)
    assert not len(aloud.push([])) and not len(aloud.finish())


def test_there_are_as_many_codes_as_a_sound_has_time_for_whatever_is_heard_beside_it(spoken, codec):
    codes = heard_codes(codec, spoken)
    assert [len(row) for row in codes] == [-(-len(sound) // SAMPLES_PER_CODE) for sound in spoken]
    assert all(0 <= code < CODES for row in codes for code in row)
    for row, sound in zip(codes, spoken, strict=True):
        assert heard_codes(codec, [sound])[0][:-1] == row[:-1]  # the last may hear where the sound was cut off
        assert codec.decode(torch.tensor([row])).shape[-1] == len(row) * SAMPLES_PER_CODE // HOP


def test_saved_and_loaded_it_is_the_same(codec, tmp_path):
    codec.save(tmp_path)
    loaded = Codec.load(tmp_path)
    for name in ("patterns", "alone", "pairs", "after"):
        assert torch.equal(getattr(loaded, name), getattr(codec, name))


@pytest.mark.parametrize("damage", ["missing", "cut off", "nonsense", "another size"])
def test_a_damaged_codec_is_refused_with_its_file(codec, tmp_path, damage):
    codec.save(tmp_path)
    file = tmp_path / FILE
    if damage == "missing":
        file.unlink()
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "nonsense":
        file.write_bytes(b"nonsense" * 10)
    else:
        Codec(codec.patterns[:5], codec.alone, codec.pairs, codec.after).save(tmp_path)
    with pytest.raises(LifecycleError, match=FILE):
        Codec.load(tmp_path)


def test_the_nearest_answer_takes_the_fewest_edits():
    assert edits([1, 2, 3], [1, 3]) == 1 and edits([], [1, 2]) == 2 and edits([1, 2], [2, 1]) == 2
    assert nearest([1, 2, 2, 3], {"a": [1, 2, 3], "b": [3, 2, 1]}) == "a"
    assert nearest([], {"a": [1]}) == ""
