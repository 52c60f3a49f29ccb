"""Figures of variety: known for texts small enough to count by hand, and what they are meant to show."""

import random

import pytest
from click.testing import CliRunner

from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import documents
from lifecycle.world.quality import measure, template, type_token_ratio, words


def test_by_hand():
    found = measure(["Anna had a red ball. Ben had a blue key.", "Anna ran."])
    assert (found.documents, found.words, found.distinct_words) == (2, 12, 9)
    assert found.type_token_ratio == pytest.approx(9 / 12)
    assert found.templates == 2
    assert found.template_entropy == pytest.approx(0.9183, abs=1e-4)  # two of three, one of three
    assert found.near_duplicates == 0


def test_a_template_is_what_is_left_without_the_worlds_words():
    assert template("Then she gave Anna two of the apples.") == "Then PRONOUN gave PERSON NUMBER of the GOODS."
    assert template("She had a red ball.") == template("He had a silver vase.") == "PRONOUN had a COLOUR THING."
    assert template("What is 17 + 5?") == "What is NUMBER + NUMBER?"


def test_a_text_told_twice_is_a_duplicate_and_one_with_a_word_changed_nearly():
    text = " ".join(f"word{number}" for number in range(60))
    changed = text.replace("word0 ", "other ")
    half = " ".join(f"word{number}" for number in range(30, 90))
    assert measure([text, text]).near_duplicates == measure([text, changed]).near_duplicates == 0.5
    assert measure([text, half]).near_duplicates == 0


def test_the_ratio_does_not_depend_on_the_length():
    every = words("one two three four one two three four")
    assert type_token_ratio(every[:4], 4) == type_token_ratio(every, 4) == 1
    assert type_token_ratio(every, 8) == 0.5


def test_nothing_to_measure_is_an_error():
    with pytest.raises(LifecycleError, match="no text to measure"):
        measure(["", "..."])


def test_the_world_repeats_hardly_a_document():
    found = measure([one.text for one in documents(WorldConfig(documents=400, max_sentences=5), random.Random(0))])
    assert found.near_duplicates < 0.05
    assert found.template_entropy > 6


@pytest.mark.parametrize("kind", ["documents", "conversations", "preferences", "tasks"])
def test_the_command_prints_a_card_of_every_kind(kind):
    result = CliRunner().invoke(main, ["world", "--kind", kind, "--count", "20", "--card"])
    assert result.exit_code == 0, result.output
    shown = dict(line.rsplit(maxsplit=1) for line in result.output.splitlines())
    assert 0 < float(shown["type-token ratio (windows of 1000 words)"]) <= 1
    assert shown["near-duplicates"].endswith("%")
