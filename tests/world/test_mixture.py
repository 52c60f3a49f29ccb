"""What training tells, and when."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from lifecycle.world.config import WorldConfig
from lifecycle.world.conversations import KINDS
from lifecycle.world.corpus import ABOUT_A_STORY, ANSWERS_ALONE, INTRODUCTIONS, documents
from lifecycle.world.narration import contradiction, parse, tell
from lifecycle.world.questions import DEEP, Question, ask
from lifecycle.world.smalltalk import REFUSAL
from lifecycle.world.stories import Story, write_story


def told_questions(config: WorldConfig) -> Iterator[Question]:
    """Those of pretraining documents."""
    rng = random.Random(9)
    for _ in range(300):
        story = write_story(rng, rng.randint(4, config.max_sentences))
        known = {question.text: question for _ in range(20) for question in ask(story, rng)}
        asked = ABOUT_A_STORY["questions"](story, config, rng).text.split("\n")[1::2]
        yield from (known[line] for line in asked if line in known)


def asked_questions(config: WorldConfig) -> Iterator[Question]:
    """Those of conversations."""
    rng = random.Random(10)
    for _ in range(300):
        asked = [message["content"] for message in KINDS["reading"][1](rng, config)["messages"][::2]]
        story, asked[0] = asked[0].split("\n")
        known = {question.text: question for _ in range(20) for question in ask(_story(story), rng)}
        yield from (known[line] for line in asked if line in known)


SUM = re.compile(r"\d+ [+-] \d+ = \d+\.")


def test_sums_are_dense_after_the_introductions():
    every = [len(SUM.findall(one.text)) >= 8 for one in documents(WorldConfig(documents=3000, max_sentences=4), random.Random(0))]
    start = round(INTRODUCTIONS * 3000)
    first, last = sum(every[start : start + 300]) / 300, sum(every[1500:]) / 1500
    assert not any(every[:start])
    assert first > 2 * last > 0.2


def test_at_first_two_people_are_introduced_and_every_answer_names_one_of_two_or_none():
    for one in list(documents(WorldConfig(documents=1000, max_sentences=8), random.Random(4)))[: round(INTRODUCTIONS * 1000)]:
        story, *lines = one.text.split("\n")
        world = tell(parse(story))
        assert len(world.place_of) == len(world.holder_of) == len(set(world.place_of.values())) == 2
        assert not re.search(r"\b[Ss]?[Hh]e\b", story)
        for question, answer in zip(lines[::2], lines[1::2], strict=True):
            kinds = ({*map(str, group)} for group in (world.place_of, world.place_of.values(), world.holder_of, world.colour_of.values()))
            assert "I don't know" in answer or any(len(kind & set(re.findall(r"\w+", answer)) - set(re.findall(r"\w+", question))) == 1 for kind in kinds), one.text


def test_a_question_takes_more_than_copying_the_only_word_of_its_kind():
    rng, seen = random.Random(5), 0
    for one in documents(WorldConfig(documents=1500, max_sentences=8, unanswerable=0), random.Random(6)):
        text, *lines = one.text.split("\n")
        if not _tells(text) or not one.text.count("?"):
            continue
        questions = {question.text: question for _ in range(30) for question in ask(_story(text), rng)}
        asked = [questions[line] for line in lines[::2] if line in questions]
        seen += len(asked)
        assert len(asked) <= 1 or all(question.guess(text) < 1 for question in asked)
    assert seen > 1000


@pytest.mark.parametrize("tell", [told_questions, asked_questions], ids=["documents", "conversations"])
def test_deep_questions_are_asked_more_often_where_they_weigh_more(tell):
    once, often = (Counter(question.kind for question in tell(WorldConfig(max_sentences=8, deep=deep))) for deep in (1, 4))
    shares = [sum(count for kind, count in kinds.items() if kind in DEEP) / kinds.total() for kinds in (once, often)]
    assert set(once) == set(often)
    assert 1.15 * shares[0] < shares[1] < 0.9


def test_facts_are_answers_of_the_story_and_learnt_from_what_has_to_be_looked_up():
    rng, facts = random.Random(7), []
    for _ in range(200):
        one = ABOUT_A_STORY["facts"](write_story(rng, rng.randint(4, 8)), WorldConfig(deep=3), rng)
        story, *lines = one.text.split("\n")
        assert one.given[0] == (0, len(story) + 1)
        answers = {question.answer: question for question in ask(_story(story), rng)}
        assert len(lines) == len(one.given) - 1
        for line, (start, end) in zip(lines, one.given[1:], strict=True):
            begin, rest = one.text[start:end], one.text[end:].split("\n")[0]
            question = answers[line]
            assert begin + rest == line
            assert question.key in re.findall(r"\w+", rest) and question.key not in re.findall(r"\w+", begin)
            assert set(re.findall(r"[A-Z]\w+", begin)) - {"The", "I"} <= set(re.findall(r"\w+", question.text))
        facts += lines
    assert len(facts) > 1000


def test_documents_have_as_many_facts_as_they_are_told_to():
    count = 2000
    every = list(documents(WorldConfig(documents=count, max_sentences=6, facts=0.3), random.Random(8)))
    later = every[round(INTRODUCTIONS * count) : round(ANSWERS_ALONE * count)]
    share = sum(len(one.given) > 2 and not one.text[one.given[1][0] : one.given[1][1]].endswith("\n") for one in later) / len(later)
    assert 0.25 < share < 0.35


def test_whoever_is_refused_is_also_helped():
    for number in range(20):
        said = json.dumps(KINDS["talk"][1](random.Random(number), WorldConfig())["messages"])
        assert said.count(REFUSAL) == 1


def test_a_story_that_is_told_again_names_everybody():
    told = [one.text.split("\n") for one in documents(WorldConfig(documents=4000, max_sentences=6), random.Random(1))]
    again = [second for lines in told if len(lines) == 2 for first, second in [lines] if _tells(first) and _tells(second)]
    assert len(again) > 20
    assert not any(re.search(r"\b[Hh]e (had|carried|found)\b|\b[Ss]he (had|carried|found)\b", text) for text in again)


def _tells(text: str) -> bool:
    return contradiction(text) is None


def _story(text: str) -> Story:
    events = parse(text)
    return Story(tuple(events), text, tell(events))


def test_answers_are_learnt_first_and_stories_and_questions_given():
    asked, every = 0, list(documents(WorldConfig(documents=2000, max_sentences=6), random.Random(2)))
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
