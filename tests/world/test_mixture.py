"""What training tells, and when."""

from __future__ import annotations

import json
import random
import re

from lifecycle.world.conversations import KINDS
from lifecycle.world.corpus import ANSWERS_ALONE, documents
from lifecycle.world.narration import contradiction
from lifecycle.world.smalltalk import REFUSAL

SUM = re.compile(r"\d+ [+-] \d+ = \d+\.")


def test_sums_are_dense_at_the_beginning():
    every = [len(SUM.findall(one.text)) >= 8 for one in documents(3000, 4, random.Random(0))]
    first, last = sum(every[:300]) / 300, sum(every[1500:]) / 1500
    assert first > 2 * last > 0.2


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
