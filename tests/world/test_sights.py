"""Pictures: a seed decides them, answers follow from what is drawn, and training shows nothing that is held out."""

import itertools
from collections import Counter

import numpy as np
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.world.sights import KINDS, SKILLS, SPLITS, correct, held_out, scenes, sprites, words
from lifecycle.world.sights.items import Item
from lifecycle.world.sights.questions import FRAMES, said_in

NUMBER = 400


def some(split: str, number: int = NUMBER, kinds=None, seed: int = 0) -> list:
    return list(itertools.islice(scenes(seed, split, kinds), number))


@pytest.fixture(scope="module")
def training() -> list:
    return some("train", 3000)


@pytest.mark.parametrize("split", ["train", "test", "unseen"])
def test_a_seed_decides_every_pixel_and_every_word(split):
    one, again, other = some(split, 40), some(split, 40), some(split, 40, seed=1)
    assert one == again != other
    for first, second in zip(one, again, strict=True):
        assert np.array_equal(first.render(), second.render())
        assert first.caption() == second.caption() and first.questions() == second.questions()


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_picture_has_the_size_that_is_asked_for(size):
    for scene in some("train", 12):
        picture = scene.render(size)
        assert picture.shape == (size, size, 3) and picture.dtype == np.uint8


def test_answers_are_right_and_those_to_other_pictures_mostly_are_not(training):
    asked = [(skill, [q for scene in training for q in scene.questions() if q.skill == skill]) for skill in SKILLS]
    for skill, questions in asked:
        assert len(questions) > 200, skill
        for question in questions:
            assert correct(question, question.answer) and correct(question, question.answer.upper())
            assert not correct(question, "") and not correct(question, "I don't know.")
            assert not correct(question, question.answer + " It is not so.")
            assert len(question.answer.split()) <= 16 and 0 < question.chance <= 0.5
        shifted = zip(questions, questions[7:], strict=False)
        assert sum(correct(one, other.answer) for one, other in shifted) < 0.3 * len(questions), skill


def test_what_a_question_asks_is_no_part_of_its_words_alone(training):
    """No question names what is found, but for the two to choose from."""
    for question in (question for scene in training for question in scene.questions()):
        told = set(said_in(question.text))
        if question.skill in ("object", "count", "colour", "position", "digits"):
            assert not any(set(one) <= told for one in question.accepted), question


def test_captions_name_everything(training):
    for scene in training:
        facts = scene.caption().rstrip(".").split() if scene.kind == "signs" else said_in(scene.caption())
        assert {item.word for item in scene.items} <= set(facts), scene.caption()


def test_training_shows_nothing_that_is_held_out(training):
    assert {scene.kind for scene in training} == set(SPLITS["train"])
    assert not [scene for scene in training if held_out(scene)]
    drawn = {item.word for scene in training for item in scene.items if item.kind == "drawing"}
    assert drawn == set(words.SEEN)


def test_pictures_of_many_things_are_as_frequent_as_if_nothing_were_held_out():
    """Of many things some are sooner where they never are: if such pictures were passed over, a single thing would be what training mostly shows."""
    number = {kind: [Counter(item.word for item in scene.items) for scene in some("train", 600, [kind])] for kind in ("colour", "count", "position")}
    for things in (1, 2, 3):
        assert sum(len(one) == things for one in number["colour"]) == pytest.approx(200, abs=50)
    for count in range(1, 6):
        assert sum(next(iter(one.values())) == count for one in number["count"]) == pytest.approx(120, abs=40)
    assert sum(len(one) == 2 for one in number["count"]) == pytest.approx(200, abs=50) == sum(len(one) == 2 for one in number["position"])


@pytest.mark.parametrize("kind", KINDS)
def test_every_test_picture_holds_something_out_for_what_it_asks(kind):
    for scene in some("test", 60, [kind]):
        assert scene.kind == kind and kind in held_out(scene)
        assert any(question.skill == kind for question in scene.questions())


def test_unseen_drawings_are_in_no_other_split():
    assert {item.word for scene in some("unseen") for item in scene.items} == set(words.UNSEEN)


def centre(scene, item: Item, size: int = 128) -> np.ndarray:
    x, y = int(item.x * size), int(item.y * size)
    return np.median(scene.render(size)[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3), axis=0)


def test_the_pixel_in_a_shape_has_the_colour_that_is_said():
    names, table = list(words.COLOURS), np.array(list(words.COLOURS.values()))
    for scene in some("train", 300, ["colour"]):
        for item in scene.items:
            if item.kind == "shape":
                nearest = names[int(np.abs(table - centre(scene, item)).sum(1).argmin())]
                assert nearest == item.colour


def test_things_leave_their_marks_where_they_are_said_to_be():
    """Without noise, pixels that differ from the ground are found in the place that is answered."""
    checked = 0
    for scene in some("train", 300, ["position"]):
        if len(scene.items) == 1 and not scene.ground.noise and scene.ground.first == scene.ground.last:
            rows, columns = np.nonzero((scene.render() != np.array(scene.ground.first)).any(-1))
            middle = (columns.min() + columns.max() + 1) / 128, (rows.min() + rows.max() + 1) / 128
            nearest = min(words.PLACES, key=lambda place: np.hypot(*np.subtract(words.PLACES[place], middle)))
            (question,) = [question for question in scene.questions() if question.skill == "position"]
            assert correct(question, f"It is {words.at(nearest)}.")
            checked += 1
    assert checked > 10


def test_everything_that_is_counted_is_apart():
    for scene in some("train", 200, ["count"]):
        for one, other in itertools.combinations(scene.items, 2):
            assert max(abs(one.x - other.x), abs(one.y - other.y)) >= 0.24


def islands(marked: np.ndarray) -> int:
    """How many pieces of touching pixels there are; a heart may leave a few at its tip."""
    left, found = {tuple(place) for place in np.argwhere(marked)}, []
    while left:
        edge, size = [left.pop()], 0
        while edge:
            row, column = edge.pop()
            near = {(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left, size = left - near, size + 1
            edge += near
        found.append(size)
    return sum(size > 4 for size in found)


def test_shapes_can_be_counted_in_the_pixels():
    checked = 0
    for scene in some("train", 300, ["count"]):
        plain = not scene.ground.noise and scene.ground.first == scene.ground.last
        if plain and {item.kind for item in scene.items} == {"shape"} and len({item.word for item in scene.items}) == 1:
            off = np.abs(scene.render(160).astype(int) - np.array(scene.ground.first)).sum(-1)
            number = islands(off > 60)
            (question,) = [question for question in scene.questions() if question.skill == "count"]
            assert correct(question, str(number))
            checked += 1
    assert checked > 5


def test_relations_are_what_the_coordinates_say():
    for scene in some("train", 300, ["relation"]):
        where = {item.word: item for item in scene.items}
        for question in scene.questions():
            facts = said_in(question.answer)
            if question.skill == "relation" and "larger" in facts:
                others = set(said_in(question.text)) - set(facts)
                assert all(where[facts[1]].extent > 1.4 * where[other].extent for other in others)
            elif question.skill == "relation":
                one, side, other = facts if facts[0] in where else (facts[2], facts[0], facts[1])
                gap = where[other].x - where[one].x if side in ("left", "right") else where[other].y - where[one].y
                assert (gap if side in ("left", "above") else -gap) >= 0.25, question
                assert not correct(question, f"The {other} is {side} of the {one}.")


def test_what_is_asked_for_fits_one_thing_alone(training):
    """A colour that two shapes have, or a side on which two things are, is no question."""
    ways = {"left": (-1, 0), "right": (1, 0), "above": (0, -1), "below": (0, 1)}
    asked = 0
    for scene in training:
        where = {item.word: item for item in scene.items}
        for question in scene.questions():
            said = said_in(question.text)
            if question.skill == "colour" and said[0] in words.COLOURS:
                assert [item.colour for item in scene.items].count(said[0]) == 1
                asked += 1
            elif question.skill == "relation" and len(said) == 2 and said[0] in ways:
                (across, along), other = ways[said[0]], where[said[1]]
                there = [item for item in scene.items if across * (item.x - other.x) + along * (item.y - other.y) > 0.1]
                assert len(there) == 1 and correct(question, there[0].word)
                asked += 1
    assert asked > 300


def test_unknown_names_say_what_there_is():
    with pytest.raises(LifecycleError, match="train"):
        scenes(0, "trian")
    with pytest.raises(LifecycleError, match="object"):
        scenes(0, "unseen", ["digits"])


def test_hardly_a_word_of_a_frame_states_a_fact():
    assert set(said_in(" ".join(FRAMES))) == {"two", "larger", "moves"}


def test_without_the_font_of_the_other_style_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sprites, "_NOTO_PLACES", ())
    sprites._noto.cache_clear()
    with pytest.raises(LifecycleError, match="apt-get install fonts-noto-color-emoji"):
        sprites.sprite.__wrapped__("drawing", "anchor", "noto", 11, 1)


def test_the_other_style_differs_in_style_alone():
    try:
        shown = some("other_style", 60)
        pictures = [scene.render() for scene in shown]
    except LifecycleError as error:
        assert "apt-get install fonts-noto-color-emoji" in str(error)
        pytest.skip("Noto Color Emoji is not installed")
    assert {scene.kind for scene in shown} == set(SPLITS["other_style"])
    assert all(picture.std() > 1 for picture in pictures)
    assert not [scene for scene in shown if held_out(scene)]
    assert all(item.look == "noto" for scene in shown for item in scene.items)
