"""What is held out occurs in no training text, and wherever it can in what the report card asks."""

import itertools
import json
import random
import re
from dataclasses import replace

import pytest

from lifecycle.evaluation import sets
from lifecycle.world.config import WorldConfig
from lifecycle.world.conversations import sft_conversations
from lifecycle.world.corpus import pretraining_corpus
from lifecycle.world.holdout import bucket, owner_is_held_out, pair_is_held_out, phrasing_is_held_out, sum_is_held_out
from lifecycle.world.narration import contradiction, parse, tell
from lifecycle.world.preferences import preference_pairs
from lifecycle.world.questions import CORES, LEADS, ask
from lifecycle.world.stories import Story
from lifecycle.world.tasks import SKILLS, draw_tasks, identity, verified_prompts
from lifecycle.world.tools import WEATHER_PHRASINGS
from lifecycle.world.verifiers import verify
from lifecycle.world.vocabulary import GOODS, PEOPLE, PLACES, THINGS
from lifecycle.world.writing import BEGINNINGS

UNKNOWN = {"type": "don't know"}
SMALL = WorldConfig(documents=1500, conversations=800, prompts=300)
HELD_PHRASINGS = [
    re.compile(re.sub(r"{\w+}", r"\\w+", lead + core).replace("?", r"\?"), re.IGNORECASE)
    for kind, cores in CORES.items()
    for lead in LEADS
    for core in cores
    if phrasing_is_held_out(kind, lead, core)
]
HELD_WEATHER = [
    phrasing.format(place=place)
    for place in PLACES
    for phrasing in WEATHER_PHRASINGS
    if bucket("weather", place, phrasing, of=5) == 0
]


@pytest.fixture(scope="module")
def training() -> dict[str, list[str]]:
    """A small world's training texts by kind, one a document or a message."""
    documents, validation, _ = pretraining_corpus(SMALL)
    talks, _ = sft_conversations(SMALL)
    pairs, _ = preference_pairs(SMALL)
    chosen = [row["chosen"][0]["content"] for row in pairs]
    prompts, _ = verified_prompts(SMALL, tuple(skill for skill in SKILLS if skill != "tool_call"))
    tasks = [task for skill in SKILLS for task in draw_tasks(skill, 30, 5, random.Random(skill), held_out=False)]
    return {
        "documents": [*documents["text"], *validation["text"]],
        "conversations": [turn["content"] for talk in talks["messages"] for turn in json.loads(talk)],
        "preferences": [turn["content"] for row in pairs for part in row.values() for turn in part],
        "chosen": chosen,
        "prompts": [row["prompt"][0]["content"] for row in prompts],
        "tasks": [task["messages"][0]["content"] for task in tasks],
    }


def sums_in(text: str) -> list[tuple[int, str, int]]:
    return [(int(a), sign, int(b)) for a, sign, b in re.findall(r"(\d+) ([+-]) (\d+)", text)]


def stories_in(text: str) -> list[Story]:
    """Whatever part of a line tells events: from its first sentence, or its second after a request, as far as it goes."""
    found = []
    for line in text.splitlines():
        sentences = re.findall(r"[^.!?]+[.!?]", re.sub(r"^\w+: ", "", line))
        for start, end in itertools.product((0, 1), range(len(sentences), 0, -1)):
            told = "".join(sentences[start:end])
            if told and contradiction(told) is None:
                found.append(Story(tuple(parse(told)), told, None))
                break
    return found


@pytest.mark.parametrize("kind", ["documents", "conversations", "preferences", "prompts", "tasks"])
def test_training_never_shows_what_is_held_out(training, kind):
    texts = training[kind]
    assert texts
    for text in texts:
        assert not [one for one in sums_in(text) if sum_is_held_out(*one)], text
        assert not [one for one in HELD_PHRASINGS if one.search(text)], text
        assert not [one for one in HELD_WEATHER if one in text], text


def test_training_stories_give_nobody_what_is_held_out(training):
    texts = [text for kind, texts in training.items() if kind != "preferences" for text in texts]  # half of them broken
    stories = [story for text in texts for story in stories_in(text)]
    assert len(stories) > 1000
    assert not [story.text for story in stories if story.uses_held_out_owner]


def test_training_requests_name_no_held_out_pair(training):
    asking = re.compile(rf"(?:{'|'.join(BEGINNINGS)}) [^.]*story[^.]*")
    requests = [request for texts in training.values() for text in texts for request in asking.findall(text)]
    assert len(requests) > 500
    for request in requests:
        people = list(dict.fromkeys(word for word in re.findall(r"\w+", request) if word in PEOPLE))
        things = [word for word in re.findall(r"\w+", request) if word in THINGS]
        assert not [pair for pair in itertools.combinations(people, 2) if pair_is_held_out(*pair)], request
        assert not [thing for thing in things if owner_is_held_out(people[0], thing)], request


def test_a_sum_is_held_out_with_its_terms_exchanged():
    assert all(sum_is_held_out(a, "+", b) == sum_is_held_out(b, "+", a) for a in range(60) for b in range(a))
    assert any(sum_is_held_out(a, "-", b) != sum_is_held_out(b, "-", a) for a in range(60) for b in range(a))


@pytest.mark.parametrize("skill", SKILLS)
def test_the_development_split_shares_no_task_with_the_frozen_one(skill):
    split = [identity(task) for task in sets.development(skill)]
    assert len(set(split)) == sets.DEVELOPMENT_SIZE
    assert not set(split) & {identity(task) for task in sets.load(skill)}
    assert split[:7] == [identity(task) for task in sets.development(skill, 7)]


@pytest.mark.parametrize("skill", SKILLS)
def test_tasks_of_both_splits_hold_only_what_is_held_out(skill):
    for task in sets.load(skill) + sets.development(skill):
        text = task["messages"][0]["content"]
        for one in sums_in(text):
            assert sum_is_held_out(*one), text
        if skill in ("reading", "unanswerable"):
            assert any(one.search(text) for one in HELD_PHRASINGS), text
            assert [story for story in stories_in(text) if story.uses_held_out_owner], text
        if skill == "tool_call" and "weather" in task["check"]["name"]:
            assert text in HELD_WEATHER
        words = task["check"].get("words", [])
        if skill == "story_consistency":
            assert pair_is_held_out(*words), text
        if skill == "constrained_writing":
            things = [word for word in words if word in THINGS]
            assert owner_is_held_out(words[0], things[0]) if things else pair_is_held_out(*words[:2]), text


def test_the_frozen_sets_are_what_freezing_writes(tmp_path):
    for path in sets.freeze(tmp_path):
        assert path.read_bytes() == (sets.DIRECTORY / path.name).read_bytes(), path.name


@pytest.mark.parametrize("skill", SKILLS)
def test_frozen_tasks_are_different_and_well_formed(skill):
    tasks = sets.load(skill)
    assert len(tasks) == sets.SIZE == len({identity(task) for task in tasks})
    for task in tasks:
        assert task["skill"] == skill and 0 <= task["chance"] <= 1
        assert verify(task["check"], "") is False


@pytest.mark.parametrize("make", [sft_conversations, preference_pairs, verified_prompts, pretraining_corpus])
def test_a_seed_decides_every_text(make):
    small = replace(SMALL, documents=100, conversations=100, prompts=50)
    one, again, other = (make(config) for config in (small, small, replace(small, seed=1)))
    assert one[0].to_list() == again[0].to_list() and one[-1] == again[-1]
    assert one[-1].hash != other[-1].hash and one[-1].id != other[-1].id


def read_pairs() -> list[tuple[str, ...]]:
    """(prompt, chosen, rejected) of every preference pair."""
    pairs, _ = preference_pairs(SMALL)
    return [tuple(row[part][0]["content"] for part in ("prompt", "chosen", "rejected")) for row in pairs]


def test_chosen_answers_are_what_the_story_says_and_rejected_ones_are_not():
    questions = [row for row in read_pairs() if "\n" in row[0]]
    assert len({verify(UNKNOWN, chosen) for _, chosen, _ in questions}) == 2
    for prompt, chosen, rejected in questions:
        text, question = prompt.split("\n")
        world = tell(parse(text))
        named = {word for word in re.findall(r"\w+", question) if word in (*PEOPLE, *THINGS, *GOODS)}
        if verify(UNKNOWN, chosen):
            assert not named <= set(re.findall(r"\w+", text)), prompt
        else:  # the same question asked of the story as it is read back, in whatever words
            story = Story(tuple(parse(text)), text, world)
            true = {one.answer for one in ask(story, random.Random(0)) if set(re.findall(r"\w+", one.text)) & named}
            assert chosen in true and rejected != chosen, (prompt, chosen, rejected)


def test_chosen_stories_are_consistent_and_rejected_ones_break_the_request():
    stories = [row for row in read_pairs() if "\n" not in row[0]]
    assert len(stories) > 100
    for row in stories:
        request, chosen, rejected = row
        asked = [word for word in re.findall(r"\w+", request) if word in (*PEOPLE, *THINGS, *PLACES)]
        assert contradiction(chosen) is None
        assert verify({"type": "story", "words": asked}, chosen), row
        assert not verify({"type": "story", "words": asked}, rejected), row
