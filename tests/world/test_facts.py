"""Statements about pictures: true ones follow from what is drawn, false ones differ, and neither tells what is held out."""

from __future__ import annotations

import itertools
import random

import pytest

from lifecycle.world.sights import KINDS, scenes, words
from lifecycle.world.sights.facts import facts
from lifecycle.world.sights.holdout import count_is_held_out, place_is_held_out, writing_is_held_out
from lifecycle.world.sights.questions import NAMES


@pytest.mark.parametrize("kind", KINDS)
def test_true_and_false_statements_never_meet(kind):
    for scene in itertools.islice(scenes(3, "train", [kind]), 40):
        true, false = facts(scene, random.Random(1))
        assert true and len(set(true)) == len(true) and not set(true) & set(false)
        assert (true, false) == facts(scene, random.Random(1))


def test_what_is_held_out_is_in_no_statement_about_training_pictures():
    said = [text for scene in itertools.islice(scenes(4), 400) for some in facts(scene, random.Random(2)) for text in some]
    numbers = [text.split()[-1] for text in said if text.startswith(("the number", "the word"))]
    assert numbers and not any(writing_is_held_out(number) for number in numbers)
    places = {f"{words.a(word)} {words.at(place)}" for word in NAMES for place in words.PLACES if place_is_held_out(word, place)}
    counts = {words.number_of(word, n) for word in NAMES for n in range(1, 6) if count_is_held_out(word, n)}
    assert not set(said) & (places | counts)


def test_a_cat_alone():
    scene = next(one for one in scenes(5, "train", ["position"]) if len(one.items) == 1 and one.items[0].kind == "drawing")
    (item,) = scene.items
    true, false = facts(scene, random.Random(3))
    assert true == [words.a(item.word), f"{words.a(item.word)} {words.at(item.place)}"]
    assert len(false) == 1 and false[0].startswith(words.a(item.word)) and false[0] != true[1]
