"""What the tower learns from: only what is said of a part counts."""

from __future__ import annotations

import itertools

import pytest
import torch

from lifecycle.see import SeeConfig
from lifecycle.see.contrastive import TwoTowers, held_out_of, words_of
from lifecycle.see.data import grounded
from lifecycle.see.vision import TOKENS, pixels
from lifecycle.world.sights import words
from lifecycle.world.sights.grounded import NOTHING, TOPICS, UNSAID
from lifecycle.world.sights.holdout import colour_is_held_out, count_is_held_out, place_is_held_out

THIRDS = {0.2: "left", 0.5: "middle", 0.8: "right"}
ROWS = {0.2: "top", 0.5: "middle", 0.8: "bottom"}
CONFIG = SeeConfig(num_layers=2, hidden_size=32, num_heads=2, contrastive_batch=6)


@pytest.fixture(scope="module")
def towers() -> TwoTowers:
    return TwoTowers(CONFIG, words_of(torch.randn(256, 16, generator=torch.Generator().manual_seed(1)), lambda text: list(text.encode())))


def test_a_word_begins_as_the_language_models_own():
    embeddings = torch.randn(256, 16, generator=torch.Generator().manual_seed(1))
    table = words_of(embeddings, lambda text: list(text.encode()))
    assert table.shape == (sum(len(words) + 1 for words in TOPICS.values()), 16)
    name = table[1 + TOPICS["name"].index("cat")]
    torch.testing.assert_close(name, torch.nn.functional.normalize(embeddings[list(b" cat")].mean(0), dim=0))
    assert not table[0].any()


def test_the_first_token_of_a_word_is_the_loudest_and_signs_turn_with_their_place():
    embeddings = torch.eye(256)
    table = words_of(embeddings, lambda text: list(text.encode()), fading=0.5)
    cat = table[1 + TOPICS["name"].index("cat")]
    assert [round((cat[sign] / cat[ord(" ")]).item(), 3) for sign in b" cat"] == [1, 0.5, 0.25, 0.125]
    starts = dict(zip(TOPICS, itertools.accumulate(len(some) + 1 for some in TOPICS.values()), strict=True))
    first, third = (table[starts[f"sign {place}"] - len(TOPICS[f"sign {place}"]) + number] for place, number in ((1, 0), (3, 1)))  # "0" first, "1" third
    assert first.nonzero()[:, 0].tolist() == [ord("0")] and third.nonzero()[:, 0].tolist() == [ord("1") + 2]


def test_what_is_not_said_teaches_nothing(towers):
    shown = grounded(CONFIG, 0)
    assert shown.parts.shape == (6, TOKENS, len(TOPICS))
    nothing = torch.full_like(shown.parts, UNSAID), torch.full_like(shown.patches, UNSAID)
    assert towers.loss(pixels(shown.pictures), *nothing)[0].item() == 0
    assert towers.loss(pixels(shown.pictures), shown.parts, nothing[1])[0] > 0


def test_a_part_learns_from_what_is_said_of_it_alone(towers):
    shown = grounded(CONFIG, 1)
    parts = torch.full_like(shown.parts, UNSAID)
    parts[2, 5, 0] = 7
    x = pixels(shown.pictures).requires_grad_()
    towers.loss(x, parts, torch.full_like(shown.patches, UNSAID))[0].backward()
    moved = x.grad.abs().sum((1, 2, 3)) > 0
    assert moved.tolist() == [number == 2 for number in range(6)]


def test_what_is_held_out_is_no_wrong_word_and_what_is_true_stays_one():
    shown = [grounded(CONFIG, step).parts for step in range(12)]
    parts = torch.cat(shown).flatten(0, 1)
    left_out = 0
    for topic in TOPICS:
        never, true = held_out_of(topic, parts), parts[:, list(TOPICS).index(topic)]
        if topic not in ("name", "colour", "count"):
            assert never is None
            continue
        assert not never[true > NOTHING].gather(1, true[true > NOTHING, None]).any() and not never[:, NOTHING].any()
        for part, masked in zip(parts.tolist(), never, strict=True):
            known = {name: TOPICS[name][word - 1] for name, word in zip(TOPICS, part, strict=True) if word > NOTHING}
            for word in (TOPICS[topic][number - 1] for number in masked.nonzero()[:, 0].tolist()):
                left_out += 1
                told = {**known, topic: word}
                place = next((at for at, (x, y) in words.PLACES.items() if (THIRDS[x], ROWS[y]) == (told.get("column"), told.get("row"))), None)
                assert (
                    (topic == "name" and place and place_is_held_out(word, place))
                    or ("colour" in told and told["name"] in words.SHAPES and colour_is_held_out(told["name"], told["colour"]))
                    or (topic == "count" and count_is_held_out(told["name"], words.COUNTS.index(word) + 1))
                )
    assert left_out > 500


def test_a_step_follows_from_its_number():
    one, same, other = grounded(CONFIG, 3), grounded(CONFIG, 3), grounded(CONFIG, 4)
    assert torch.equal(one.pictures, same.pictures) and torch.equal(one.parts, same.parts) and torch.equal(one.patches, same.patches)
    assert not torch.equal(one.pictures, other.pictures)
