"""Recordings are those that were committed, in every voice, and reach the ear in many ways."""

from __future__ import annotations

import numpy as np
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.world.speech import ANSWERER, RATE, UNHEARD, VOICES, bank, exchanges, recordings, varied


def test_every_voice_says_everything_and_one_answers():
    said = {one.said for one in exchanges()}
    assert len(said) == len(exchanges())
    for voice in (*VOICES, UNHEARD):
        assert set(recordings(voice)) >= said
    assert set(recordings(ANSWERER)) >= {one.answer for one in exchanges()}
    assert UNHEARD not in VOICES


def test_recordings_are_short_audible_and_about_equally_loud():
    for voice in (*VOICES, UNHEARD):
        for text, sound in recordings(voice).items():
            assert 0.15 < len(sound) / RATE < 5, (voice, text)
            assert 0.03 < np.sqrt(np.mean(sound**2)) < 0.15, (voice, text)


def test_noise_is_as_loud_as_asked_for():
    heard = varied(recordings(ANSWERER)["What does a cat say?"], np.random.default_rng(0), signal_to_noise=20)
    inside = np.abs(heard.clean) > 0
    ratio = np.mean(heard.clean[inside] ** 2) / np.mean((heard.noisy - heard.clean) ** 2)
    assert abs(10 * np.log10(ratio) - 20) < 1
    assert heard.clean.shape == heard.noisy.shape


def test_a_file_that_is_not_what_was_committed_is_named(tmp_path, monkeypatch):
    for path in bank.DIRECTORY.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "slt.opus").write_bytes(b"noise")
    monkeypatch.setattr(bank, "DIRECTORY", tmp_path)
    with pytest.raises(LifecycleError, match="slt.opus"):
        bank.recordings.__wrapped__("slt")
    with pytest.raises(LifecycleError, match="slt"):
        bank.recordings.__wrapped__("slo")
