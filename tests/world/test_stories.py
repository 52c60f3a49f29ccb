"""Stories are consistent by construction, read back to exactly what happened, and keep what is held out to themselves."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.world.holdout import owner_is_held_out
from lifecycle.world.narration import contradiction, narrate, parse, tell
from lifecycle.world.preferences import broken
from lifecycle.world.state import Inconsistent
from lifecycle.world.stories import Plan, tells_held_out_owner, write_story
from lifecycle.world.vocabulary import PEOPLE, PLACES, THINGS

seeds = st.integers(0, 2**32)
lengths = st.integers(2, 12)


@given(seeds, lengths, st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_story_reads_back_to_exactly_its_events(seed, sentences, held_out):
    story = write_story(random.Random(seed), sentences, held_out=held_out)
    assert tuple(parse(story.text)) == story.events
    assert contradiction(story.text) is None
    assert tell(parse(story.text)) == story.world
    assert story.uses_held_out_owner == held_out


@given(seeds, lengths, st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_text_shows_whether_somebody_has_what_training_gives_them_never(seed, sentences, held_out):
    text = write_story(random.Random(seed), sentences, held_out=held_out).text
    assert tells_held_out_owner(text) == held_out
    assert not tells_held_out_owner(f"{text} And so on.")  # no story


@given(seeds)
@settings(max_examples=100, deadline=None)
def test_however_it_is_told_it_reads_alike(seed):
    rng = random.Random(seed)
    story = write_story(rng, 6)
    assert parse(narrate(list(story.events), rng)) == list(story.events)


@given(seeds, st.integers(4, 8))
@settings(max_examples=60, deadline=None)
def test_what_was_asked_for_occurs(seed, sentences):
    rng = random.Random(seed)
    first, second = rng.sample(PEOPLE, 2)
    thing = rng.choice([thing for thing in THINGS if not owner_is_held_out(first, thing)])
    place = rng.choice(PLACES)
    story = write_story(rng, sentences, Plan((first, second), thing=thing, place=place))
    assert {first, second} == set(story.world.place_of)
    assert thing in story.world.holder_of
    assert any(event.place == place for event in story.events)


@given(seeds, st.integers(4, 8))
@settings(max_examples=40, deadline=None)
def test_a_story_ends_as_was_asked(seed, sentences):
    rng = random.Random(seed)
    first, second = rng.sample(PEOPLE, 2)
    thing = rng.choice([thing for thing in THINGS if not owner_is_held_out(first, thing)])
    place = rng.choice(PLACES)
    assert write_story(rng, sentences, Plan((first, second), ends_in=place)).world.place_of[first] == place
    assert write_story(rng, sentences, Plan((first, second), ends_with=thing)).world.holder_of[thing] == first


@pytest.mark.parametrize(
    "text, why",
    [
        ("Anna was in the park. Anna had two nuts. Anna lost three of the nuts.", "has only two nuts"),
        ("Anna was in the park. Anna lost one of the nuts.", "does not have nuts"),
        ("Anna was in the park. Anna had nine nuts. Anna got nine more nuts.", "more than Anna can count"),
        ("Anna was in the park. Ben was in the park. Ben thanked Anna.", "has given Ben nothing"),
        ("Anna was in the park. Anna had a red ball. Anna painted the ball red.", "is red already"),
        ("Anna was in the park. Anna had a red ball. Anna wanted the ball, so she went to the hall.", "is not in the hall"),
        ("Anna was in the park. Anna wanted the map, so she went to the hall.", "is not in the hall"),
        ("Anna had a red ball.", "Anna has not appeared"),
        ("Anna was in the park. Anna was in the hall.", "already in the park"),
        ("Anna was in the park. Anna went to the park.", "in the park already"),
        (
            "Anna was in the park. Ben was in the hall. Anna had a red ball. She gave the ball to Ben.",
            "Ben is not in the park",
        ),
        ("Anna was in the park. Ben was in the park. Ben gave the ball to Anna.", "does not have the ball"),
        ("Anna was in the park. She had a red ball. She found a blue ball.", "has appeared before"),
        (
            "Anna was in the park. She had a red ball. She put the ball down. She went to the hall. She took the ball.",
            "no ball lies",
        ),
        ("Anna was in the park. He had a red ball.", 'nobody is "He"'),
        ("He was in the park.", 'nobody is "He"'),
        ("Anna was in the park. Anna was sad, so he went to the hall.", 'is not "he"'),
        ("Anna was in the park. Anna ate the ball.", "no meaning"),
        ("Anna was in the park. Anna had a red", "no meaning"),
        ("Anna was in the park. Anna had a tasty ball.", "no meaning"),
    ],
)
def test_a_story_that_cannot_be_is_told_why(text, why):
    assert why in contradiction(text)


@pytest.mark.parametrize("stray", ["... ", "!!! ", ". "])
def test_stray_punctuation_is_no_sentence_wherever_it_stands(stray):
    text = "Anna was in the park. She had a red ball."
    assert contradiction(text) is None
    for spoilt in (stray + text, text + " " + stray, text.replace("park. ", "park. " + stray)):
        assert contradiction(spoilt) is not None


def test_an_event_that_cannot_happen_changes_nothing():
    world = tell(parse("Anna was in the park. She had a red ball."))
    before = repr(world)
    with pytest.raises(Inconsistent):
        world.apply(replace(parse("Ben was in the hall.")[0], who="Anna"))
    assert repr(world) == before


@given(seeds, lengths)
@settings(max_examples=100, deadline=None)
def test_a_broken_story_reads_back_and_is_not_consistent(seed, sentences):
    rng = random.Random(seed)
    text = narrate(broken(write_story(rng, sentences).events, rng), rng)
    assert contradiction(text) is not None
    with pytest.raises(Inconsistent):
        tell(parse(text))
