"""Silence, loudness, and whose turn it is."""

import numpy as np
import pytest

from serving.application.speech import Audio
from serving.infrastructure.speech.energy import Energy
from serving.infrastructure.speech.silence import trimmed
from serving.infrastructure.speech.turns import SentenceTurns, SilenceTurns

STEP = 0.032


def events(detector, *stretches):
    """(seconds, event) for stretches of (probability, seconds)."""
    found, now = [], 0.0
    for probability, seconds in stretches:
        for _ in range(round(seconds / STEP)):
            now += STEP
            if event := detector.push(probability, STEP):
                found.append((event, round(now, 2)))
    return found


def test_a_turn_begins_with_speech_and_ends_with_enough_silence():
    found = events(SilenceTurns(silence=0.5), (0.0, 1), (0.9, 2), (0.1, 0.3), (0.9, 1), (0.0, 2))
    assert [name for name, _ in found] == ["started", "stopped"]
    assert found[0][1] == pytest.approx(1.06, abs=STEP) and found[1][1] == pytest.approx(4.8, abs=2 * STEP)


def test_a_click_is_no_turn():
    assert events(SilenceTurns(), (0.0, 1), (0.9, STEP), (0.0, 1)) == []


def test_an_unfinished_sentence_gets_more_time():
    talk = ((0.9, 1), (0.0, 0.9), (0.9, 1), (0.0, 3))
    unfinished, finished = SentenceTurns(silence=0.5), SentenceTurns(silence=0.5)
    unfinished.heard("I went to the")
    finished.heard("I went home.")
    assert len(events(unfinished, *talk)) == 2
    assert len(events(finished, *talk)) == 4
    unfinished.reset()
    assert events(unfinished, (0.0, 2)) == []


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
