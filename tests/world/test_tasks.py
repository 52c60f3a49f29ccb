"""Tasks come in the number asked for or not at all, and say honestly what guessing reaches."""

import random
import re

import pytest
from click.testing import CliRunner

from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.world.tasks import SKILLS, draw_tasks, identity


@pytest.mark.parametrize("skill", SKILLS)
def test_tasks_are_different_and_follow_from_the_seed(skill):
    tasks = draw_tasks(skill, 20, 5, random.Random(1), held_out=True)
    assert len({identity(task) for task in tasks}) == 20
    assert tasks == draw_tasks(skill, 20, 5, random.Random(1), held_out=True)


def test_guessing_picks_among_the_whole_words_that_the_story_mentions():
    for task in draw_tasks(
        "reading", 300, 6, random.Random(0), held_out=False
    ):  # "bored" and "tired" mention no colour
        story = task["messages"][0]["content"].rpartition("\n")[0]
        mentioned = [
            word for word in (task["check"]["key"], *task["check"]["rivals"]) if re.search(rf"\b{word}\b", story)
        ]
        assert task["chance"] == 1 / max(1, len(mentioned)), task


def test_more_tasks_than_there_are_is_an_error(monkeypatch):
    monkeypatch.setitem(SKILLS, "two", lambda rng, longest, held_out: ([{"role": "user", "content": rng.choice("ab")}], None, {}, 0.0))
    assert len(draw_tasks("two", 2, 5, random.Random(0), held_out=True)) == 2
    with pytest.raises(LifecycleError, match="no 3 different two tasks, only 2: ask for fewer"):
        draw_tasks("two", 3, 5, random.Random(0), held_out=True)


@pytest.mark.parametrize("kind", ["documents", "conversations", "preferences", "tasks"])
def test_the_command_shows_every_kind(kind):
    shown = CliRunner().invoke(main, ["world", "--kind", kind, "--count", "2", "--sentences", "2"])
    assert shown.exit_code == 0, shown.output
    assert (
        shown.output == CliRunner().invoke(main, ["world", "--kind", kind, "--count", "2", "--sentences", "2"]).output
    )
