"""What the tower learns from: only what is said of a part counts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lifecycle.see import SeeConfig
from lifecycle.see.contrastive import COLUMN, NAME, ROW, TwoTowers, held_out_of, words_of
from lifecycle.see.data import grounded
from lifecycle.see.vision import TOKENS, pixels
from lifecycle.world.sights import scenes, words
from lifecycle.world.sights.grounded import TOPICS, UNSAID, about_parts
from lifecycle.world.sights.holdout import colour_is_held_out, place_is_held_out

CONFIG = SeeConfig(num_layers=2, hidden_size=32, num_heads=2, contrastive_batch=6)


@pytest.fixture(scope="module")
def towers() -> TwoTowers:
    return TwoTowers(CONFIG, words_of(torch.randn(256, 16, generator=torch.Generator().manual_seed(1)), lambda text: list(text.encode())))


def test_a_word_begins_as_the_language_models_own():
    embeddings = torch.randn(256, 16, generator=torch.Generator().manual_seed(1))
    table = words_of(embeddings, lambda text: list(text.encode()))
    assert table.shape == (sum(len(some) + 1 for some in TOPICS.values()), 16)
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


def test_a_step_follows_from_its_number():
    one, same, other = grounded(CONFIG, 3), grounded(CONFIG, 3), grounded(CONFIG, 4)
    assert torch.equal(one.pictures, same.pictures) and torch.equal(one.parts, same.parts) and torch.equal(one.patches, same.patches)
    assert not torch.equal(one.pictures, other.pictures)


def test_what_is_held_out_is_not_taught_to_be_wrong():
    """Names where they never are, shapes in colours that they never have; and never what is true."""
    parts = torch.from_numpy(np.concatenate([about_parts(scene, 4, 64) for scene in itertools.islice(scenes(12), 200)]))
    rows, columns = ("top", "middle", "bottom"), ("left", "middle", "right")
    known = (parts[:, NAME] > 0) & (parts[:, ROW] > 0)
    names, colours = held_out_of("name", parts), held_out_of("colour", parts)
    for at in known.nonzero()[::7, 0].tolist():
        row, column = rows[parts[at, ROW] - 1], columns[parts[at, COLUMN] - 1]
        place = " ".join(word for word in (row, column) if word != "middle") or "middle"
        never = {name for name, held in zip(TOPICS["name"], names[at, 1:].tolist(), strict=True) if held}
        true = TOPICS["name"][parts[at, NAME] - 1]
        assert never == {name for name in (*words.SEEN, *words.SHAPES) if place_is_held_out(name, place)} - {true}
        held = {colour for colour, one in zip(TOPICS["colour"], colours[at, 1:].tolist(), strict=True) if one}
        assert held == ({colour for colour in words.COLOURS if colour_is_held_out(true, colour)} if true in words.SHAPES else set())
    assert not names[:, 0].any() and not names[~known].any() and held_out_of("row", parts) is None
