"""Every answer is right by its own check, wrong once a rival stands in its place, and held-out phrasings stay held out."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.world.holdout import phrasing_is_held_out
from lifecycle.world.knowledge import facts
from lifecycle.world.narration import parse, tell
from lifecycle.world.questions import CORES, LEADS, answer_to, ask, ask_unanswerable, statements
from lifecycle.world.stories import Story, write_story
from lifecycle.world.verifiers import verify
from lifecycle.world.vocabulary import GOODS, NUMBERS, PEOPLE, THINGS

seeds = st.integers(0, 2**32)


def names(question) -> dict:
    return {"type": "names", "key": question.key, "rivals": list(question.rivals)}


@given(seeds, st.integers(2, 10), st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_answer_passes_its_check_and_fails_with_any_rival(seed, sentences, held_out):
    rng = random.Random(seed)
    for question in ask(write_story(rng, sentences), rng, held_out=held_out):
        assert verify(names(question), question.answer), question
        assert question.key not in question.rivals
        for rival in question.rivals:
            assert not verify(names(question), question.answer.replace(question.key, rival)), (question, rival)


@given(seeds, st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_answer_can_be_told_from_the_question_and_its_word(seed, held_out):
    rng = random.Random(seed)
    for question in ask(write_story(rng, 6), rng, held_out=held_out):
        told = answer_to(f"Once upon a time.\n{question.text}", question.key)
        assert verify(names(question), told)
        assert question.kind == "where thing" or told == question.answer
    assert answer_to("What is 2 + 2?", "4") is None


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_what_cannot_be_answered_is_not_in_the_story(seed):
    rng = random.Random(seed)
    story = write_story(rng, 6)
    question = ask_unanswerable(story, rng)
    assert verify({"type": "don't know"}, question.answer)
    named = {word for word in re.findall(r"\w+", question.text) if word in (*PEOPLE, *THINGS, *GOODS)}
    assert named and not named <= set(re.findall(r"\w+", story.text))


@pytest.mark.parametrize("held_out", [False, True])
def test_a_phrasing_comes_from_its_own_share(held_out):
    rng = random.Random(0)
    for _ in range(200):
        story = write_story(rng, 6)
        for question in [*ask(story, rng, held_out=held_out), ask_unanswerable(story, rng, held_out=held_out)]:
            assert phrasing_is_held_out(question.kind, *_phrasing(question)) == held_out, question.text


def test_every_kind_of_question_has_a_phrasing_for_evaluation():
    for kind, cores in CORES.items():
        assert any(phrasing_is_held_out(kind, lead, core) for lead in LEADS for core in cores), kind


def _phrasing(question) -> tuple[str, str]:
    """The (lead, core) that a question was made from."""
    return next(
        (lead, core)
        for lead in LEADS
        for core in CORES[question.kind]
        if re.fullmatch(re.sub(r"{\w+}", r"\\w+", lead + core).replace("?", r"\?"), question.text, re.IGNORECASE)
    )


def test_statements_say_how_the_world_stands():
    rng = random.Random(5)
    for _ in range(50):
        world = write_story(rng, 8).world
        told = " ".join(statements(world))
        for person, place in world.place_of.items():
            assert f"{person} is in the {place}." in told
        for thing, holder in world.holder_of.items():
            assert f"The {thing} is {world.colour_of[thing]}. The {thing} is in the {world.where(thing)}." in told
            assert (f"has the {thing}." in told) == (holder is not None)
        for (person, goods), number in world.number_of.items():
            assert f"{person} has {NUMBERS[number]} {goods}." in told


def test_each_kind_of_question_is_asked_and_answered_from_a_story_told_for_it():
    text = (
        "One day Anna was in the park. Anna had a red ball. Ben waited in the hall. Ben had six nuts. Anna was sad, so she went to "
        "the hall. Anna painted the ball blue. Anna gave the ball to Ben. Ben gave two of the nuts to Anna."
    )
    events = parse(text)
    asked = ask(Story(tuple(events), text, tell(events)), random.Random(0))
    answers = {(one.kind, next((word for word in re.findall(r"\w+", one.text) if word in (*PEOPLE, *THINGS)), "")): one.key for one in asked}
    assert answers == {
        ("who has", "ball"): "Ben",
        ("where thing", "ball"): "hall",
        ("colour", "ball"): "blue",
        ("before colour", "ball"): "red",
        ("before holder", "ball"): "Anna",
        ("what if", "ball"): "Anna",
        ("where person", "Anna"): "hall",
        ("where person", "Ben"): "hall",
        ("before place", "Anna"): "park",
        ("what has", "Anna"): "nothing",
        ("what has", "Ben"): "ball",
        ("who with", "Anna"): "Ben",
        ("who with", "Ben"): "Anna",
        ("why", "Anna"): "sad",
        ("how many", "Ben"): "four",
        ("how many", "Anna"): "two",
    }


def test_every_fact_holds_one_right_word():
    for _, answer, key in facts():
        assert verify({"type": "names", "key": key, "rivals": []}, answer)
