"""Stories with a picture: only both together answer, and the story is the text world's."""

import itertools
import re

import numpy as np
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.world.narration import parse, tell
from lifecycle.world.sights import correct, held_out, illustrated, scene_of, words
from lifecycle.world.stories import tells_held_out_owner


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_answer_is_what_the_story_says_about_what_is_drawn(split):
    shown = list(itertools.islice(illustrated(0, split), 80))
    assert shown == list(itertools.islice(illustrated(0, split), 80))
    for one in shown:
        world = tell(parse(one.story.text))  # read back from the text alone
        (item,) = one.scene.items
        assert item.word not in one.question.text
        found = world.holder_of[item.word] if one.question.text.startswith("Who") else world.where(item.word)
        assert correct(one.question, one.question.answer) and correct(one.question, f"It is {found}.")
        others = {re.findall(r"\w+", str(value))[0] for value in (*world.place_of.values(), *world.holder_of.values())} - {found}
        assert not [other for other in others if correct(one.question, f"It is {other}.")]
        assert one.question.chance <= 0.5
        assert tells_held_out_owner(one.story.text) == (split == "test")
        assert split == "test" or not held_out(one.scene)


def test_a_picture_of_given_things_shows_them():
    names = ["cat", "key", "duck", "ball"]
    scene = scene_of(names, 0)
    assert scene == scene_of(names, 0) != scene_of(names, 1)
    assert {item.word for item in scene.items} == set(names)
    assert len({item.place for item in scene.items}) == len(names)
    assert not np.array_equal(scene.render(), scene_of(names[:-1], 0).render())


@pytest.mark.parametrize("names", [[], ["cat"] * 10, ["elefant"]])
def test_what_cannot_be_drawn_says_so(names):
    with pytest.raises(LifecycleError, match="elephant" if names == ["elefant"] else f"one to {len(words.PLACES)}"):
        scene_of(names, 0)
