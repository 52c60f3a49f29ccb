"""The same words said differently: faster or slower, higher or lower, louder or softer, earlier or later, in noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lifecycle.world.speech.bank import RATE

WINDOW = RATE // 50
"""Samples over which noise is summed up to a rumble."""


@dataclass(frozen=True)
class Heard:
    """One utterance, twice: float32 samples at RATE."""

    clean: np.ndarray
    noisy: np.ndarray


def varied(sound: np.ndarray, random: np.random.Generator, *, signal_to_noise: float | None = None) -> Heard:
    """One of the ways in which a recording may reach an ear; `signal_to_noise` in dB, drawn from 10 to 40 where not given."""
    pace = random.uniform(0.9, 1.1)
    places = np.arange(0, len(sound) - 1, pace)
    said = np.interp(places, np.arange(len(sound)), sound)  # as a record that turns faster: the voice rises with it
    before, after = (random.uniform(0.02, 0.2, 2) * RATE).astype(int)
    clean = np.zeros(before + len(said) + after, np.float32)
    clean[before : before + len(said)] = random.uniform(0.5, 1.5) * said
    if signal_to_noise is None:
        signal_to_noise = random.uniform(10, 40)
    hiss = random.standard_normal(len(clean), np.float32)
    rumble = np.cumsum(hiss)  # noise whose lower frequencies are louder
    rumble[WINDOW:] -= rumble[:-WINDOW].copy()
    mixed = hiss + (random.uniform(0, 2) * WINDOW**-0.5) * rumble
    power = np.dot(clean, clean) / len(said) * 10 ** (-signal_to_noise / 10)
    return Heard(clean, clean + np.sqrt(power / np.mean(mixed**2)) * mixed)
