"""A thought says what the picture shows, and the answer follows from it."""

from __future__ import annotations

import itertools

import pytest

from lifecycle.world.sights import scenes, words
from lifecycle.world.sights.questions import said_in
from lifecycle.world.sights.thoughts import THIRDS, third


def asked(skill: str, split: str = "train", number: int = 300):
    """(scene, question) of pictures that are composed for the skill."""
    shown = itertools.islice(scenes(11, split, [skill]), number)
    return [(scene, question) for scene in shown for question in scene.questions() if question.skill == skill]


@pytest.mark.parametrize("split", ["train", "test"])
def test_counting_finds_each_in_its_place_and_ends_with_their_number(split):
    for scene, question in asked("count", split):
        word, number = said_in(question.answer)
        places = [item.place for item in scene.items if item.word == word]
        steps = [f"{words.COUNTS[n]} {place}" for n, place in enumerate(sorted(places, key=list(words.PLACES).index))]
        assert question.thought == " ".join(steps) and steps[-1].split()[0] == number


def test_sides_follow_from_columns_and_rows():
    found = 0
    for scene, question in asked("relation"):
        along, *rest = question.thought.split() or [""]
        if along not in THIRDS:
            continue
        where = dict(zip(rest[::2], rest[1::2], strict=True))
        for item in scene.items:
            if item.word in where:
                assert THIRDS[along][third(item.x if along == "columns" else item.y)] == where[item.word]
        facts = said_in(question.answer)
        one, side, other = facts if facts[0] in where else (facts[2], facts[0], facts[1])
        gap = THIRDS[along].index(where[other]) - THIRDS[along].index(where[one])
        assert (gap if side in ("left", "above") else -gap) > 0
        assert side in (("left", "right") if along == "columns" else ("above", "below"))
        found += 1
    assert found > 300


def test_what_is_larger_is_large():
    larger = [question for _, question in asked("relation") if question.thought.startswith("sizes")]
    assert larger
    for question in larger:
        assert f"{said_in(question.answer)[1]} large" in question.thought


def test_most_questions_that_take_several_looks_are_thought_about():
    for skill, least in (("count", 1.0), ("relation", 0.97)):
        thought = [bool(question.thought) for _, question in asked(skill)]
        assert sum(thought) >= least * len(thought)
    assert not any(question.thought for skill in ("object", "colour", "position", "digits") for _, question in asked(skill, number=50))
