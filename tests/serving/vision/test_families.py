"""Every family that sees: what the engine answers is what transformers' generate answers, whatever is in the batch beside it."""

from __future__ import annotations

import random

import pytest

from .conftest import chat, picture

TURN = ({"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day to you"})
ASKED = {
    "text": chat("what is the weather like today in the city?"),
    "one picture": chat("what is this?", picture(1)),
    "two pictures": chat(picture(1), " and ", picture(2), " are they alike?"),
    "different sizes": chat(picture(3, 24, 56), picture(4, 20, 20), "which is larger?"),
    "a second turn": chat(picture(5, 33, 17), "and this?", before=TURN),
}


@pytest.mark.parametrize("name", ASKED)
def test_alone(family, name):
    assert family.answers(ASKED[name]) == [family.generate(ASKED[name])]


def test_all_at_once_in_any_order(family):
    expected = {name: family.generate(asked) for name, asked in ASKED.items()}
    for seed in range(3):
        names = random.Random(seed).sample(list(ASKED), len(ASKED))
        assert family.answers(*(ASKED[name] for name in names)) == [expected[name] for name in names]
