"""Preference pairs: a consistent answer, and one like it that is subtly wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from datasets import Dataset

from lifecycle.registry import DataRef
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import content_hash
from lifecycle.world.narration import narrate, tell
from lifecycle.world.state import Event, Inconsistent
from lifecycle.world.stories import Story
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS
from lifecycle.world.writing import Assignment, assign

Pair = dict[str, Any]  # {"prompt": [message], "chosen": [message], "rejected": [message]}


def preference_pairs(config: WorldConfig) -> tuple[Dataset, DataRef]:
    """Pairs in the conversational columns "prompt", "chosen" and "rejected", and the data's id and hash."""
    rng = random.Random(f"preferences {config.seed}")
    rows = list(pairs(config.preferences, config.max_sentences, rng))
    reference = DataRef(
        f"world/preferences?seed={config.seed}&pairs={config.preferences}",
        content_hash(json.dumps(row, sort_keys=True) for row in rows),
    )
    return Dataset.from_list(rows), reference


def pairs(count: int, longest: int, rng: random.Random) -> Iterator[Pair]:
    """`count` pairs: two in three break what happens, one in three leaves out what was asked for."""
    for _ in range(count):
        assignment = assign(rng, constrained=rng.random() < 0.5)
        good = assignment.fulfil(rng, longest)
        forget = assignment.place is not None and rng.random() < 0.6
        bad = _forgetful(assignment, rng, longest) if forget else broken(good, rng)
        yield {
            "prompt": [{"role": "user", "content": assignment.request}],
            "chosen": [{"role": "assistant", "content": good.text}],
            "rejected": [{"role": "assistant", "content": bad}],
        }


def broken(story: Story, rng: random.Random) -> str:
    """The story with one event changed so that it cannot happen as told."""
    while True:
        events = _change_one(list(story.events), rng)
        try:
            tell(events)
        except (Inconsistent, KeyError):
            return narrate(events, rng)


def _change_one(events: list[Event], rng: random.Random) -> list[Event]:
    """Leave an event out, or put another person, thing or place in it: mostly one that the story has already."""
    spot = rng.randrange(len(events))
    if len(events) > 3 and rng.random() < 0.2:
        return events[:spot] + events[spot + 1 :]
    every = {"who": PEOPLE, "to": PEOPLE, "thing": THINGS, "place": PLACES}
    part = rng.choice([name for name in every if getattr(events[spot], name)])
    told = [value for event in events if (value := getattr(event, part))]
    value = rng.choice(told if rng.random() < 0.7 else every[part])
    return [*events[:spot], replace(events[spot], **{part: value}), *events[spot + 1 :]]


def _forgetful(assignment: Assignment, rng: random.Random, longest: int) -> str:
    """A consistent story that lacks one of the words asked for."""
    dropped = rng.choice(("thing", "place"))
    lax = replace(assignment, **{dropped: None})
    while True:
        text = lax.fulfil(rng, longest).text
        if getattr(assignment, dropped) not in text.replace(".", "").split():
            return text
