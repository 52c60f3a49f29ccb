"""The frozen pictures are what was committed, are what the world draws, and ask for what training never combines."""

import json

import numpy as np
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sights
from lifecycle.world.sights import SKILLS, VIDEO_SKILLS, correct, words
from lifecycle.world.sights.holdout import question_is_held_out
from lifecycle.world.sights.questions import said_in

SEED = 2026


@pytest.mark.parametrize("name", sights.SETS)
def test_frozen_tasks_are_different_and_well_formed(name):
    tasks = sights.load(name)
    assert len(tasks) == sights.TASKS[name]
    assert len({(task.caption, task.question.answer) for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.pictures.shape == (8 if name in VIDEO_SKILLS else 1, 64, 64, 3) and task.pictures.dtype == np.uint8
        assert task.pictures.std() > 1
        assert correct(task.question, task.question.answer) and not correct(task.question, "")


@pytest.mark.parametrize("name", SKILLS)
def test_frozen_questions_ask_for_what_is_held_out(name):
    for task in sights.load(name):
        assert task.question.skill == name and question_is_held_out(task.question)


def test_the_probe_of_the_unseen_shows_only_what_training_never_does():
    assert {word for task in sights.load("unseen") for word in said_in(task.question.answer)} == set(words.UNSEEN)


@pytest.mark.parametrize("name", sights.SETS)
def test_the_frozen_words_are_what_freezing_draws(name):
    drawn = sights.draw(name, sights.TASKS[name], SEED)
    assert [question for _, question in drawn] == [task.question for task in sights.load(name)]
    assert [shown.caption() for shown, _ in drawn] == [task.caption for task in sights.load(name)]


@pytest.mark.parametrize("name", [name for name in sights.SETS if name != "other_style"])
def test_the_frozen_pixels_are_about_what_is_drawn_here(name):
    """Rasterisers differ in the last bits; a picture of something else would differ everywhere."""
    drawn = sights.draw(name, 12, SEED)
    for (shown, _), task in zip(drawn, sights.load(name), strict=False):
        assert np.abs(sights.pictures_of(shown).astype(int) - task.pictures).mean() < 3


def test_nobody_answers_by_one_word_alone():
    """The commonest of a set's answers is not much above chance."""
    for name in ("count", "colour", "position"):
        said = [" ".join(word for word in said_in(task.question.answer) if word not in said_in(task.question.text)) for task in sights.load(name)]
        assert max(map(said.count, said)) < 0.3 * len(said)


def test_folding_is_undone():
    frames = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), np.uint8)
    assert np.array_equal(sights.unfold(sights.fold(frames, 3))[:7], frames)


def test_a_changed_or_missing_file_says_what_to_type(tmp_path, monkeypatch):
    monkeypatch.setattr(sights, "DIRECTORY", tmp_path)
    with pytest.raises(LifecycleError, match="git checkout data/sights"):
        sights.load("count")
    (tmp_path / sights.HASHES).write_text(json.dumps({"count.jsonl": "0"}))
    (tmp_path / "count.jsonl").write_text("")
    with pytest.raises(LifecycleError, match="not what was committed"):
        sights.load("count")
    with pytest.raises(LifecycleError, match="object"):
        sights.load("cuont")


def test_freezing_writes_what_loading_reads(tmp_path, monkeypatch):
    names = ("digits", "video_change")
    monkeypatch.setattr(sights, "SETS", names)
    sights.freeze(tmp_path, dict.fromkeys(names, 5))
    monkeypatch.setattr(sights, "DIRECTORY", tmp_path)
    for name in names:
        for task, (shown, question) in zip(sights.load(name), sights.draw(name, 5, SEED), strict=True):
            assert np.array_equal(task.pictures, sights.pictures_of(shown)) and task.question == question


def test_the_development_split_is_another_one():
    frozen = {(sight.caption, sight.question.answer) for sight in sights.load("count")}
    tasks = sights.development("count", 20)
    assert not frozen & {(sight.caption, sight.question.answer) for sight in tasks}
    assert all(question_is_held_out(sight.question) for sight in tasks)
    assert [sight.question for sight in sights.development("count", 20)] == [sight.question for sight in tasks]
