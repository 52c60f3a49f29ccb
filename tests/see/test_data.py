"""What is looked at follows from the step's number, and shows each picture once."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch

from lifecycle.see import SeeConfig
from lifecycle.see.data import ASKED, GROUNDED, _some, asked, draw, frames_of, is_told
from lifecycle.world.sights import clips, scenes
from lifecycle.world.sights.clips import LENGTH
from lifecycle.world.sights.sampling import SPLITS


def test_frames_that_are_alike_are_looked_at_once():
    clip = next(one for one in clips(2, kinds=["video_change"]))
    frames, numbers = frames_of(clip)
    assert len(numbers) == LENGTH and len(frames) < LENGTH
    assert np.array_equal(np.stack([frames[number] for number in numbers]), clip.frames())
    scene = next(scenes(2))
    (picture,), (number,) = frames_of(scene)
    assert number == 0 and np.array_equal(picture, scene.render())


def test_questions_are_different_and_not_more_than_wanted():
    rng = random.Random(1)
    for shown in (*itertools.islice(scenes(3, kinds=ASKED), 60), *itertools.islice(clips(3), 20)):
        turns = _some(shown, 3, rng)
        assert 1 <= len(turns) <= 3 and len({question for question, _ in turns}) == len(turns)
        known = {(question.text, question.answer) for question in shown.questions()} | {("Describe the picture.", shown.caption())}
        assert set(turns) <= known


def test_nothing_is_asked_that_has_been_told():
    rng = random.Random(2)
    for shown in itertools.islice(scenes(5, kinds=ASKED), 200):
        turns, skills = _some(shown, 4, rng), {question.answer: question.skill for question in shown.questions()}
        for number, (_, answer) in enumerate(turns):
            assert answer not in skills or not any(is_told(skills[answer], answer, turn) for turn in turns[:number]), turns


def test_what_is_told():
    assert is_told("colour", "Red is the star.", ("What do you see?", "The picture shows a red star."))
    assert is_told("relation", "The cat is left of the dog.", ("Is the dog left or right of the cat?", "The dog is right of the cat."))
    assert not is_told("position", "The dog is on the right.", ("Is the cat left or right of the dog?", "The cat is left of the dog."))


def test_only_kinds_that_training_may_show_are_shown():
    assert {*ASKED, *GROUNDED} <= {*SPLITS["train"]}
    assert not {"crowd", "signs"} & {*ASKED}


def test_so_many_writings_are_asked_about_as_was_said():
    for written in (1, 7):
        kinds = [shown.kind for shown in draw(SeeConfig(written=written), "tune", 0, 600)]
        assert abs(kinds.count("digits") / 600 - written / (written + len(ASKED) + 1)) < 0.06
        assert set(kinds) == {*ASKED, "digits", "anywhere"}


class Characters:
    """A tokenizer whose tokens are characters."""

    def encode(self, text: str, add_special_tokens: bool) -> list[int]:
        return [0 if piece == "<image>" else ord(piece[0]) for piece in text.replace("<image>", "\0").replace("\0", " <image> ").split(" ") if piece]

    def convert_tokens_to_ids(self, _: str) -> int:
        return 0


def test_a_step_follows_from_its_number():
    from lifecycle.see.data import Writer

    config = SeeConfig(batch=6, clips=0.2)
    (one, _), (same, _), (other, _) = (asked(config, Writer(Characters()), None, step) for step in (1, 1, 2))
    assert torch.equal(one.pictures, same.pictures) and torch.equal(one.tokens, same.tokens)
    assert len(one.pictures) != len(other.pictures) or not torch.equal(one.pictures, other.pictures)
    assert one.shown.max() == len(one.pictures) - 1
