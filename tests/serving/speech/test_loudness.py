"""Silence and loudness."""

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.infrastructure.speech.energy import Energy
from serving.infrastructure.speech.silence import trimmed


def test_loudness_tells_speech_from_the_room_however_the_sound_is_cut():
    random = np.random.default_rng(0)
    room = random.normal(0, 0.003, 16000 * 3).astype(np.float32)
    room[16000:32000] += np.sin(np.arange(16000) * 0.06).astype(np.float32) * 0.2
    whole, pieces = Energy().stream(), Energy().stream()
    heard = whole.push(room)
    assert np.mean(heard[35:60]) > 0.9 and np.mean(heard[:30]) < 0.2 and np.mean(heard[70:]) < 0.2
    assert sum((pieces.push(room[at : at + 700]) for at in range(0, len(room), 700)), []) == heard


def test_silence_around_a_sound_is_cut_and_counted():
    samples = np.zeros(48000, np.float32)
    samples[16000:32000] = 0.1
    kept, before = trimmed(Audio(samples, 16000))
    assert before == pytest.approx(0.9) and len(kept) == pytest.approx(16000 * 1.2, abs=400)
    assert len(trimmed(Audio(np.zeros(16000, np.float32), 16000))[0]) == 0
    assert len(trimmed(Audio(np.zeros(0, np.float32), 16000))[0]) == 0
