"""Preference pairs: a consistent answer, and one like it that is subtly wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from datasets import Dataset

from lifecycle.registry import DataRef
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import content_hash
from lifecycle.world.narration import narrate, tell
from lifecycle.world.questions import DONT_KNOW, Question, ask, ask_unanswerable
from lifecycle.world.state import Event, Inconsistent
from lifecycle.world.stories import write_story
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS
from lifecycle.world.writing import Assignment, assign

Pair = dict[str, Any]  # {"prompt": [message], "chosen": [message], "rejected": [message]}


def preference_pairs(config: WorldConfig) -> tuple[Dataset, DataRef]:
    """Pairs in the conversational columns "prompt", "chosen" and "rejected", and the data's id and hash."""
    rng = random.Random(f"preferences {config.seed}")
    rows = list(pairs(config.prompts, config.max_sentences, rng))
    reference = DataRef(
        f"world/preferences?seed={config.seed}&pairs={config.prompts}",
        content_hash(json.dumps(row, sort_keys=True) for row in rows),
    )
    return Dataset.from_list(rows), reference


def pairs(count: int, longest: int, rng: random.Random) -> Iterator[Pair]:
    """`count` pairs of all kinds, mixed: who learns from stories alone forgets to say "I don't know."."""
    kinds, weights = list(KINDS), [weight for weight, _ in KINDS.values()]
    for _ in range(count):
        prompt, chosen, rejected = KINDS[rng.choices(kinds, weights)[0]][1](rng, longest)
        yield {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": chosen}],
            "rejected": [{"role": "assistant", "content": rejected}],
        }


Drawn = tuple[str, str, str]  # prompt, chosen, rejected


def _writing(rng: random.Random, longest: int) -> Drawn:
    """Two in three break what happens, one in three leaves out what was asked for.

    What is broken is told in the same words otherwise: the pair differs where it matters and hardly elsewhere.
    """
    assignment = assign(rng, constrained=rng.random() < 0.5)
    good = assignment.fulfil(rng, longest)
    if assignment.plan.place is not None and rng.random() < 0.6:
        return assignment.request, good.text, _forgetful(assignment, rng, longest)
    style = rng.getrandbits(32)
    told, wrong = (narrate(list(events), random.Random(style)) for events in (good.events, broken(good.events, rng)))
    return assignment.request, told, wrong


def _reading(rng: random.Random, longest: int) -> Drawn:
    """What the story says, against another word of its kind, now and then against giving up."""
    story = write_story(rng, rng.randint(1, longest))
    question = ask(story, rng)[0]
    wrong = DONT_KNOW if rng.random() < 0.2 else _mistaken(question, story.text, rng)
    return f"{story.text}\n{question.text}", question.answer, wrong


def _mistaken(question: Question, text: str, rng: random.Random) -> str:
    """The answer with a rival in place of the right word: mostly one that the story names."""
    rivals = [rival for rival in question.rivals if rival != "nothing"]
    named = [rival for rival in rivals if rival in text.replace(".", "").split()]
    rival = rng.choice(named if named and rng.random() < 0.7 else rivals)
    return question.answer.replace(question.key, f"the {rival}" if question.key == "nothing" else rival)


def _unanswerable(rng: random.Random, longest: int) -> Drawn:
    """Not to know, against an answer to another question."""
    story = write_story(rng, rng.randint(1, longest))
    question = ask_unanswerable(story, rng)
    return f"{story.text}\n{question.text}", question.answer, ask(story, rng)[0].answer


KINDS: dict[str, tuple[float, Callable[[random.Random, int], Drawn]]] = {
    "writing": (0.8, _writing),
    "reading": (0.16, _reading),
    "unanswerable": (0.04, _unanswerable),
}


def broken(events: Sequence[Event], rng: random.Random) -> list[Event]:
    """The events with one changed so that they cannot happen as told."""
    while True:
        changed = _change_one(list(events), rng)
        try:
            tell(changed)
        except (Inconsistent, KeyError):
            return changed


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
    lax = replace(assignment, plan=replace(assignment.plan, **{dropped: None}))
    while True:
        text = lax.fulfil(rng, longest).text
        if getattr(assignment.plan, dropped) not in text.replace(".", "").split():
            return text
