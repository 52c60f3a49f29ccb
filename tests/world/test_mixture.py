"""What training tells, and when."""

from __future__ import annotations

import json
import random
import re

from lifecycle.world.conversations import KINDS
from lifecycle.world.corpus import ANSWERS_ALONE, INTRODUCTIONS, documents
from lifecycle.world.narration import contradiction, parse, tell
from lifecycle.world.questions import ask
from lifecycle.world.smalltalk import REFUSAL
from lifecycle.world.stories import Story

SUM = re.compile(r"\d+ [+-] \d+ = \d+\.")


def test_sums_are_dense_after_the_introductions():
    every = [len(SUM.findall(one.text)) >= 8 for one in documents(3000, 4, random.Random(0))]
    start = round(INTRODUCTIONS * 3000)
    first, last = sum(every[start : start + 300]) / 300, sum(every[1500:]) / 1500
    assert not any(every[:start])
    assert first > 2 * last > 0.2


def test_at_first_two_people_are_introduced_and_every_answer_names_one_of_two_or_none():
    for one in list(documents(1000, 8, random.Random(4)))[: round(INTRODUCTIONS * 1000)]:
        story, *lines = one.text.split("\n")
        world = tell(parse(story))
        assert len(world.place_of) == len(world.holder_of) == len(set(world.place_of.values())) == 2
        assert not re.search(r"\b[Ss]?[Hh]e\b", story)
        for question, answer in zip(lines[::2], lines[1::2], strict=True):
            kinds = ({*map(str, group)} for group in (world.place_of, world.place_of.values(), world.holder_of, world.colour_of.values()))
            assert "I don't know" in answer or any(len(kind & set(re.findall(r"\w+", answer)) - set(re.findall(r"\w+", question))) == 1 for kind in kinds), one.text


def test_a_question_takes_more_than_copying_the_only_word_of_its_kind():
    rng, seen = random.Random(5), 0
    for one in documents(1500, 8, random.Random(6), 0):
        text, *lines = one.text.split("\n")
        if not _tells(text) or not one.text.count("?"):
            continue
        events = parse(text)
        story = Story(tuple(events), text, tell(events))
        questions = {question.text: question for _ in range(30) for question in ask(story, rng)}
        asked = [questions[line] for line in lines[::2] if line in questions]
        seen += len(asked)
        assert len(asked) <= 1 or all(question.guess(text) < 1 for question in asked)
    assert seen > 1000


def test_whoever_is_refused_is_also_helped():
    for number in range(20):
        said = json.dumps(KINDS["talk"][1](random.Random(number), 4)["messages"])
        assert said.count(REFUSAL) == 1


def test_a_story_that_is_told_again_names_everybody():
    told = [one.text.split("\n") for one in documents(4000, 6, random.Random(1))]
    again = [second for lines in told if len(lines) == 2 for first, second in [lines] if _tells(first) and _tells(second)]
    assert len(again) > 20
    assert not any(re.search(r"\b[Hh]e (had|carried|found)\b|\b[Ss]he (had|carried|found)\b", text) for text in again)


def _tells(text: str) -> bool:
    return contradiction(text) is None


def test_answers_are_learnt_first_and_stories_and_questions_given():
    asked, every = 0, list(documents(2000, 6, random.Random(2)))
    alone = round(ANSWERS_ALONE * len(every))
    assert not any(one.given for one in every[alone:])
    for one in every[:alone]:
        assert all(0 <= start < end <= len(one.text) + 1 for start, end in one.given)
        starts = {start for start, _ in one.given}
        place = 0
        for line in one.text.split("\n"):
            if line.endswith("?"):
                asked += 1
                assert place in starts, line
            place += len(line) + 1
        assert "".join(one.text[start:end] for start, end in one.given) != one.text
    assert asked > 1000
