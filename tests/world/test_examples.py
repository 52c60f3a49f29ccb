"""The chat page's questions are ones that the world asks, and its own answers to them are right."""

import pytest

from lifecycle.world.examples import EXAMPLES
from lifecycle.world.narration import contradiction, parse
from lifecycle.world.questions import DONT_KNOW
from lifecycle.world.smalltalk import REFUSAL
from lifecycle.world.stories import tells_held_out_owner
from lifecycle.world.verifiers import verify

RIGHT = (
    "It is red.",
    "A cat says meow.",
    DONT_KNOW,
    "21 + 34 = 55.",
    "Once Ben was in the park. Mia was in the park. Ben had a blue ball.",
    REFUSAL,
    "7, 23, 41.",
    '{"person": "Mia", "place": "the shop", "thing": "a blue key"}',
)


@pytest.mark.parametrize("example, answer", zip(EXAMPLES, RIGHT, strict=True), ids=lambda value: getattr(value, "prompt", ""))
def test_the_worlds_answer_is_right_and_every_other_answer_is_wrong(example, answer):
    assert verify(example.check, answer)
    assert not any(verify(example.check, other) for other in RIGHT if other != answer)


@pytest.mark.parametrize("prompt", [example.prompt for example in EXAMPLES if "\n" in example.prompt])
def test_a_story_that_is_asked_about_is_one_that_training_may_tell(prompt):
    story = prompt.split("\n")[0]
    assert parse(story) and contradiction(story) is None and not tells_held_out_owner(story)
