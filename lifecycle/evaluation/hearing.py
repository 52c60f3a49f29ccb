"""What a version that hears and speaks understands of numbers and names in noise, and whether its answers aloud can be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lifecycle.evaluation.distance import edits
from lifecycle.speak.speaker import Speaker
from lifecycle.world.speech import UNHEARD, VOICES, Exchange, exchanges, recordings, varied

SIGNAL_TO_NOISE = 20.0
"""Decibels."""
SEED, DEVELOPMENT_SEED = 2026, 2027
ENOUGH = 24
"""Tokens within which all that was heard is written down."""


def spoken(voices: Sequence[str], limit: int | None = None, development: bool = False) -> list[tuple[Exchange, np.ndarray]]:
    """Every number and name in each of these voices, varied and in noise as no training step has it; the first `limit` of each.

    For `development` they are varied in another way.
    """
    told = [one for one in exchanges() if one.kind in ("digit", "name")][:limit]
    random = np.random.default_rng((DEVELOPMENT_SEED if development else SEED, len(voices)))
    return [
        (one, varied(recordings(voice)[one.said], random, signal_to_noise=SIGNAL_TO_NOISE).noisy) for voice in voices for one in told
    ]


def examine(directory: Path, limit: int | None = None, development: bool = False) -> list[tuple[str, list[bool], int]]:
    """Each skill, whether each task was right, and how many things could have been said.

    "native_heard" is what was written down in voices that training knows, "native_heard (unheard voice)" in one that it does
    not; "native_spoken" is right where the answer aloud is nearer to the recording of the right answer than to that of any other.
    """
    speaker = Speaker(directory)
    things = len(exchanges())
    rows = []
    for skill, voices in (("native_heard", VOICES), ("native_heard (unheard voice)", (UNHEARD,))):
        asked = spoken(voices, limit, development)
        replies = speaker.listen([sound for _, sound in asked], longest=ENOUGH)
        rows.append((skill, [reply.heard == one.said for (one, _), reply in zip(asked, replies, strict=True)], things))
    asked = spoken(VOICES[:1], limit, development)
    replies = speaker.listen([sound for _, sound in asked])
    read = [nearest(reply.codes, speaker.writer.answers) == one.answer for (one, _), reply in zip(asked, replies, strict=True)]
    return [*rows, ("native_spoken", read, things)]


def nearest(codes: Sequence[int], answers: Mapping[str, Sequence[int]]) -> str:
    """The answer whose recording takes the fewest insertions, deletions and other codes to become `codes`; "" of no codes."""
    return min(answers, key=lambda text: edits(codes, answers[text])) if codes else ""
