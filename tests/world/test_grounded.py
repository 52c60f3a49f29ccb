"""What is said of a part of a picture is what is drawn there, and never what is held out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from lifecycle.world.sights import KINDS, held_out, scenes, words
from lifecycle.world.sights.grounded import (
    MOST_SIGNS,
    NEAR,
    NOTHING,
    SIGNS,
    TOPICS,
    UNSAID,
    about_parts,
    about_patches,
    signs,
)
from lifecycle.world.sights.holdout import count_is_held_out, place_is_held_out
from lifecycle.world.sights.sampling import LOOSE
from lifecycle.world.sights.scene import Scene

SIZE = 64
TOPIC = list(TOPICS)


def said(scene: Scene) -> list[dict[str, str]]:
    """Of every part the words that are said of it."""
    return [{topic: TOPICS[topic][word - 1] for topic, word in zip(TOPIC, part, strict=True) if word > NOTHING} for part in about_parts(scene, 4, SIZE)]


@pytest.mark.parametrize("kind", [*KINDS, *LOOSE])
def test_only_what_is_there_is_said(kind):
    for scene in itertools.islice(scenes(3, "train", [kind]), 60):
        shown = {item.word for item in scene.items}
        writing = scene.items[0].kind == "writing"
        parts = about_parts(scene, 4, SIZE)
        assert parts.shape == (16, len(TOPICS)) and about_patches(scene, 8, SIZE).shape == (64, len(NEAR))
        assert parts.min() >= UNSAID and all(parts[:, n].max() <= len(some) for n, some in enumerate(TOPICS.values()))
        assert (parts[:, 0] >= NOTHING).all()  # at an edge nothing is said, and nothing is left open
        for part in said(scene):
            if writing:
                written = {(f"sign {place}", sign) for item in scene.items for place, sign in enumerate(item.word, start=1)}
                assert {(topic, sign) for topic, sign in part.items() if topic.startswith("sign")} <= written
            elif part:
                assert part["name"] in shown and not any(topic.startswith("sign") for topic in part)


def test_a_thing_alone_is_named_where_it_is():
    for scene in itertools.islice((one for one in scenes(5, "train", ["position"]) if len(one.items) == 1), 40):
        (item,) = scene.items
        part = said(scene)[min(3, int(item.y * 4)) * 4 + min(3, int(item.x * 4))]
        column = next((side for side in ("left", "right") if side in item.place), "middle")
        row = next((side for side in ("top", "bottom") if side in item.place), "middle")
        assert (part["name"], part["column"], part["row"], part.get("colour")) == (item.word, column, row, item.colour)


def test_a_drawing_has_no_colour_and_a_shape_has_its_own():
    for scene in itertools.islice(scenes(7, "train", ["colour", "relation"]), 60):
        looks = {item.word: item.colour for item in scene.items}
        assert all(part.get("colour") == looks[part["name"]] for part in said(scene) if part)


@pytest.mark.parametrize("kind", ["count", "crowd", "digits", "signs"])
def test_the_middle_of_each_thing_and_of_each_sign_is_in_one_patch(kind):
    for scene in itertools.islice(scenes(9, "train", [kind]), 60):
        patches = dict(zip(NEAR, about_patches(scene, 8, SIZE).T, strict=True))
        if kind in ("digits", "signs"):
            middles = [(x, y) for item in scene.items for _, x, y, *_ in signs(item, SIZE)]
            assert (patches["number"] == UNSAID).all()
        else:
            middles = [(item.x * SIZE, item.y * SIZE) for item in scene.items]
            assert (patches["number"] == len(scene.items)).all()
        assert set(np.flatnonzero(patches["centre"])) == {int(y // 8) * 8 + int(x // 8) for x, y in middles}


def test_two_lines_of_signs_do_not_touch():
    for scene in itertools.islice(scenes(10, "train", ["signs"]), 100):
        upper, lower = scene.items
        heights = [signs(item, SIZE)[0][4] / SIZE for item in scene.items]
        assert lower.y - upper.y >= sum(heights) / 2 and all(height / 2 <= item.y <= 1 - height / 2 for item, height in zip(scene.items, heights, strict=True))


def test_all_signs_of_a_writing_are_said_and_stand_in_order():
    for scene in itertools.islice(scenes(6, "train", ["digits"]), 60):
        (item,) = scene.items
        word = item.word
        assert len(word) <= MOST_SIGNS
        parts, patches = said(scene), about_patches(scene, 8, SIZE)
        assert {(topic, sign) for part in parts for topic, sign in part.items() if topic.startswith("sign")} == {
            (f"sign {place}", sign) for place, sign in enumerate(word, start=1)
        }
        assert {(place, sign) for _, sign, place, *_ in patches.tolist() if place > NOTHING} <= {
            (place, SIGNS.index(sign) + 1) for place, sign in enumerate(word, start=1)
        }
        along = [x for _, x, *_ in signs(item, SIZE)]
        assert along == sorted(along) and all(0 < x < SIZE for x in along)


def test_signs_stand_where_there_is_ink():
    """The middle of each digit's box is nearer to ink than to anything else of the writing."""
    for scene in itertools.islice((one for one in scenes(8, "train", ["digits"]) if one.items[0].word.isdigit()), 40):
        (item,) = scene.items
        picture, bare = (one.render().astype(int) for one in (scene, Scene("digits", (item,), scene.ground, scene.seed)))
        assert np.array_equal(picture, bare)
        ground = scene.ground.render(SIZE, scene.seed)
        ink = np.abs(picture - ground).sum(-1) > 60
        for _, x, y, width, height in signs(item, SIZE):
            box = ink[max(0, round(y - height / 2)) : round(y + height / 2) + 1, max(0, round(x - width / 2)) : round(x + width / 2) + 1]
            assert box.any()


def test_what_is_held_out_is_said_of_no_training_picture():
    for scene in itertools.islice(scenes(4), 400):
        assert not held_out(scene)
        for part in said(scene):
            if "count" in part:
                assert not count_is_held_out(part["name"], words.COUNTS.index(part["count"]) + 1)
    crowds = [item for scene in itertools.islice(scenes(4, kinds=["crowd"]), 200) for item in scene.items]
    assert not any(item.place and place_is_held_out(item.word, item.place) for item in crowds)
