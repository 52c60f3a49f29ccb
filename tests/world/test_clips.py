"""Clips: what happens in the frames is what is answered, and a file that is decoded shows what was encoded."""

import itertools

import numpy as np
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.world.sights import VIDEO_SKILLS, clips, correct, words
from lifecycle.world.sights.clips import KINDS, LENGTH, holds_out
from lifecycle.world.sights.films import FORMATS, decode, encode
from lifecycle.world.sights.questions import said_in
from lifecycle.world.sights.sampling import held_out


def some(split: str = "train", number: int = 300, kinds=None, seed: int = 0) -> list:
    return list(itertools.islice(clips(seed, split, kinds), number))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_seed_decides_every_frame_and_every_word(split):
    one, again, other = some(split, 20), some(split, 20), some(split, 20, seed=1)
    assert one == again != other
    for first, second in zip(one, again, strict=True):
        frames = first.frames()
        assert frames.shape == (LENGTH, 64, 64, 3) and frames.dtype == np.uint8
        assert np.array_equal(frames, second.frames())
        assert first.caption() == second.caption() and first.questions() == second.questions()


def test_clips_of_many_things_are_as_frequent_as_if_nothing_were_held_out():
    assert sum(len(clip.actors) == 2 for clip in some(number=400, kinds=["video_direction"])) == pytest.approx(200, abs=50)
    number = [len({actor.item.word for actor in clip.actors}) == 1 < len(clip.actors) for clip in some(number=600, kinds=["video_change"])]
    assert sum(number) == pytest.approx(200, abs=50)


@pytest.mark.parametrize("kind", KINDS)
def test_every_clip_answers_a_question_of_its_kind(kind):
    for clip in some(kinds=[kind]):
        questions = clip.questions()
        assert questions and {question.skill for question in questions} == {kind} <= set(VIDEO_SKILLS)
        for question in questions:
            assert correct(question, question.answer) and not correct(question, "")
            assert not correct(question, question.answer + " It is not so.") and 0 < question.chance <= 0.5


def test_training_neither_shows_nor_does_what_is_held_out():
    for clip in some():
        assert not holds_out(clip)
        scenes = [clip.scene(number) for number in range(LENGTH)]
        assert not [scene for scene in scenes if scene.items and held_out(scene)]
    assert all(holds_out(clip) for clip in some("test"))


def marks(frame: np.ndarray, ground: np.ndarray) -> tuple[float, float]:
    """The middle (x, y) of what differs from the ground."""
    rows, columns = np.nonzero((frame != ground).any(-1))
    return columns.mean(), rows.mean()


def test_what_moves_moves_that_way_in_the_pixels():
    for clip in some(number=60, kinds=["video_direction"]):
        if len(clip.actors) == 1:
            ground = clip.ground.render(64, clip.seed).clip(0, 255).astype(np.uint8)
            first, last = (marks(clip.frames()[number], ground) for number in (0, -1))
            across, along = np.subtract(last, first)
            seen = ("right" if across > 0 else "left") if abs(across) > abs(along) else "down" if along > 0 else "up"
            assert max(abs(across), abs(along)) > 0.4 * 64
            (question,) = clip.questions()
            assert correct(question, f"It moves {seen}.")


def test_what_changes_changes_in_the_frame_that_is_said():
    for clip in some(number=100, kinds=["video_change"]):
        frames, times = clip.frames(), {actor.at for actor in clip.actors if actor.event != "stays"}
        assert times
        for number in range(1, LENGTH):
            assert np.array_equal(frames[number - 1], frames[number]) == (number not in times)


def test_numbers_and_order_follow_from_what_is_there():
    asked = 0
    for clip in some(kinds=["video_change"]):
        present = [{item.word for item in clip.scene(number).items} for number in range(LENGTH)]
        for question in clip.questions():
            if question.text.startswith(("How many", "What number")):
                shown = clip.scene(0 if "beginning" in question.text else LENGTH - 1)
                assert correct(question, words.COUNTS[len(shown.items) - 1])
            elif {"first", "last"} & set(said_in(question.text)):
                word, appears = said_in(question.answer)[-1], "appears" in question.text
                frames = [number for number in range(LENGTH) if (word in present[number]) == appears]
                others = said_in(question.text)[-2:]
                (other,) = set(others) - {word}
                theirs = [number for number in range(LENGTH) if (other in present[number]) == appears]
                assert (min(frames) < min(theirs)) == ("first" in question.text)
                asked += 1
    assert asked > 30


@pytest.mark.parametrize("format", FORMATS)
def test_a_film_decodes_to_what_was_encoded(format):
    for clip in some(number=4):
        frames = clip.frames()
        seen = decode(encode(frames, format))
        assert seen.shape == frames.shape
        off = np.abs(seen.astype(int) - frames.astype(int)).mean(axis=(1, 2, 3))
        every = np.abs(seen[:, None].astype(int) - frames[None].astype(int)).mean(axis=(2, 3, 4))
        assert off.max() < 4
        assert np.allclose(every.min(1), off, atol=0.3), "each frame is nearest to its own"


def test_what_is_no_film_says_so():
    odd, floats = np.zeros((8, 63, 64, 3), np.uint8), np.zeros((8, 64, 64, 3))
    for frames, says in ((odd, "even"), (floats, "uint8")):
        with pytest.raises(LifecycleError, match=says):
            encode(frames)
    with pytest.raises(LifecycleError, match="mp4"):
        encode(np.zeros((8, 64, 64, 3), np.uint8), "mp5")
    with pytest.raises(LifecycleError, match="no film"):
        decode(b"no film at all")
