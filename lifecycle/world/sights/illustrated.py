"""Stories with a picture: what the picture shows is in the story, and only both together answer the question."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle.config import choose
from lifecycle.world.questions import say
from lifecycle.world.sights import words
from lifecycle.world.sights.questions import Question
from lifecycle.world.sights.sampling import held_out, scene_of
from lifecycle.world.sights.scene import Scene
from lifecycle.world.stories import Story, write_story
from lifecycle.world.vocabulary import PEOPLE, PLACES

SENTENCES = (4, 8)
ASKED = {
    "who has": ("Who has what the picture shows?", "Who holds what is in the picture?"),
    "where thing": ("Where is what the picture shows?", "In which place is what the picture shows?"),
}


@dataclass(frozen=True, slots=True)
class Illustrated:
    """A story, a picture of one thing in it, and a question that says "what the picture shows" for the thing."""

    story: Story
    scene: Scene
    question: Question


def illustrated(seed: int, split: str = "train") -> Iterator[Illustrated]:
    """An endless stream; the same for the same arguments. In "test" somebody has what training never gives them.

    The story tells of two things at least, with different people or in different places. Raises LifecycleError for an
    unknown split.
    """
    choose("split", split, {"train": None, "test": None})
    return _endless(split == "test", random.Random(f"illustrated {split} {seed}"))


def _endless(test: bool, rng: random.Random) -> Iterator[Illustrated]:
    while True:
        story = write_story(rng, rng.randint(*SENTENCES), held_out=test)
        kind = rng.choice(tuple(ASKED))
        answers = _answers(story, kind)
        drawn = [thing for thing in answers if thing in words.SEEN]
        if drawn and len(set(answers.values())) > 1:
            thing = rng.choice(drawn)
            yield Illustrated(story, _picture(thing, rng, test), _question(story, kind, thing, rng))


def _answers(story: Story, kind: str) -> dict[str, str]:
    """Of every thing who has it, or where it is."""
    world = story.world
    if kind == "who has":
        return {thing: holder for thing, holder in world.holder_of.items() if holder}
    return {thing: world.where(thing) for thing in world.holder_of}


def _picture(thing: str, rng: random.Random, test: bool) -> Scene:
    while True:
        scene = scene_of([thing], rng.getrandbits(32))
        if test or not held_out(scene):
            return scene


def _question(story: Story, kind: str, thing: str, rng: random.Random) -> Question:
    key, holder = _answers(story, kind)[thing], story.world.holder_of[thing]
    answer = say(kind, key, {"thing": thing, "holder": holder or ""})
    who, place = (holder or "").lower(), story.world.where(thing)
    found = ((who,), (who, place)) if kind == "who has" else ((place,), (who, place))
    accepted = {tuple(word for word in (*start, *one) if word) for start in ((), (thing,)) for one in found}
    told = set(story.text.replace(".", " ").replace(",", " ").split())
    guesses = sum(word in told for word in (PEOPLE if kind == "who has" else PLACES))
    return Question("illustrated", rng.choice(ASKED[kind]), answer, tuple(sorted(accepted)), 1 / guesses)
