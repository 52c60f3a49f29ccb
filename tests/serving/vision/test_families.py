"""Every family that sees: what the engine answers is what transformers' generate answers, whatever is in the batch beside it."""

from __future__ import annotations

import random

import pytest

from serving.domain.policies import BUILTIN

from .conftest import chat, picture, seeing
from .families import FAMILIES

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


@pytest.mark.parametrize("policy", sorted(BUILTIN))
def test_under_every_policy_and_with_guesses(tmp_path, policy):
    knobs = {"policy": policy, "speculative": "ngram", "speculative_max_seqs": 8, "step_pictures": 1, "num_blocks": 24}
    family = seeing("qwen3_vl", tmp_path, **knobs)
    asked = list(ASKED.values())
    assert family.answers(*asked) == [family.generate(one) for one in asked]
    family.served.engine.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_in_half_precision(tmp_path, name):
    """Loaded, checked with a picture, and every kind of request gets to its end."""
    family = seeing(name, tmp_path, dtype="bfloat16")
    assert len(family.answers(*ASKED.values())) == len(ASKED)
    family.served.engine.close()
