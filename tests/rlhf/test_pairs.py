"""Pairs of a model's own answers: who is preferred to whom, and that they are sampled once and are the same every time."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sft.tiny import WORLD

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.rlhf import RLHFConfig, pairs
from lifecycle.rlhf.reward import split
from lifecycle.world.tasks import verified_prompts

CONFIG = RLHFConfig(dtype="fp32", pair_answers=3)
GOOD = "Anna was in the park. Ben was in the park."


def sample(start, config=CONFIG):
    tasks, data = verified_prompts(WORLD)
    return pairs.run(config, start.registry, parent=start.registry.load("sft/1"), tasks=tasks, data=data)


def test_an_answer_that_passes_is_preferred_to_one_that_does_not():
    assert pairs.pair_up(["nonsense", GOOD, "more of it"], [False, True, False], most=2) == [(GOOD, "nonsense")]


def test_no_answer_is_in_two_pairs_of_a_prompt():
    right = [f"Anna was in the {place}." for place in ("park", "hall", "barn", "park")]
    assert len(pairs.pair_up([*right, "a", "b"], [True] * 4 + [False] * 2, most=5)) == 2
    assert len(pairs.pair_up([*right, *"abcdef"], [True] * 4 + [False] * 6, most=5)) == 3  # one was told twice
    assert len(pairs.pair_up([*right, *"abcdef"], [True] * 4 + [False] * 6, most=1)) == 1


@pytest.mark.parametrize("verdict", [True, False])
def test_answers_that_are_all_alike_make_no_pair(verdict):
    assert pairs.pair_up([GOOD, "Anna sat in the hall."], [verdict] * 2, most=2) == []


def test_what_evaluation_holds_out_is_not_preferred(monkeypatch):
    held_out = lambda who, thing: (who, thing) == ("Anna", "cup")  # noqa: E731
    monkeypatch.setattr("lifecycle.world.stories.owner_is_held_out", held_out)
    told = ["Anna was in the park. Anna had a red cup.", "Anna was in the park. Anna had a red map."]
    assert pairs.pair_up([*told, "wrong", "wrong too"], [True, True, False, False], most=2) == [(told[1], "wrong")]


def test_pairs_are_a_version_with_a_lineage_and_sampled_once(start, monkeypatch):
    version = sample(start)
    assert [parent.ref for parent in version.manifest.parents] == ["sft/1"]
    rows, data = pairs.read(version)
    assert len(rows) == version.manifest.metrics["pairs"] > 0
    assert data.id == "rlhf-pairs/1/pairs.jsonl"
    assert data.hash == hashlib.sha256((Path(version.path) / pairs.FILE).read_bytes()).hexdigest()
    prompts = {json.dumps(row["prompt"]) for row in verified_prompts(WORLD)[0]}
    assert all(json.dumps(row["prompt"]) in prompts and row["chosen"] != row["rejected"] for row in rows)
    monkeypatch.setattr(pairs, "_judged", lambda *arguments: pytest.fail("sampled again"))
    assert sample(start) == version


def test_the_seed_decides_what_is_sampled(start):
    text = lambda version: (Path(version.path) / pairs.FILE).read_text()  # noqa: E731
    told = text(sample(start))
    assert sample(start, replace(CONFIG, dpo_lr=1.0)).ref == "rlhf-pairs/1"  # which decides nothing here
    shutil.rmtree(start.registry.root / pairs.NAME)
    assert text(sample(start)) == told != text(sample(start, replace(CONFIG, seed=1)))


def test_a_model_that_is_always_wrong_makes_no_pairs(start, monkeypatch):
    monkeypatch.setattr("lifecycle.rlhf.pairs.verify", lambda check, answer: False)
    with pytest.raises(LifecycleError, match="sft/1 answered each of 30 prompts 3 times, and no two prompts got both"):
        sample(start)
    assert not start.registry.versions(pairs.NAME)


def test_no_prompt_is_both_held_out_and_trained_on(start):
    rows, _ = pairs.read(sample(start))
    held_out, rest = split(rows)
    prompts = lambda rows: {json.dumps(prompt) for prompt in rows["prompt"]}  # noqa: E731
    assert len(held_out) and len(rest) and not prompts(held_out) & prompts(rest)


def pair(prompt: str) -> dict:
    says = {"prompt": ("user", prompt), "chosen": ("assistant", "yes"), "rejected": ("assistant", "no")}
    return {column: [{"role": role, "content": content}] for column, (role, content) in says.items()}


def test_prompts_that_begin_alike_are_different_prompts(tmp_path):
    file = tmp_path / "mine.jsonl"
    rules = {"role": "system", "content": "You are helpful."}
    rows = [{**pair(prompt), "prompt": [rules, *pair(prompt)["prompt"]]} for prompt in "abc"]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    held_out, rest = split(pairs.read_file(file)[0])
    assert (len(held_out), len(rest)) == (1, 2)


@pytest.mark.parametrize(("pairs_of", "held"), [((1, 9), 1), ((1, 50, 1), 2), ((9, 1), 1), ((5, 5), 5), ((1, 1), 1)])
def test_most_pairs_are_learnt_from_however_few_prompts_there_are(tmp_path, pairs_of, held):
    file = tmp_path / "mine.jsonl"
    rows = [{**pair(prompt), "rejected": [{"role": "assistant", "content": str(n)}]} for prompt, count in zip("abc", pairs_of, strict=False) for n in range(count)]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    held_out, rest = split(pairs.read_file(file)[0])
    assert (len(held_out), len(rest)) == (held, sum(pairs_of) - held)


def test_pairs_of_a_file_are_kept_as_they_are_once_with_its_hash(tmp_path):
    registry = ModelRegistry(tmp_path / "registry")
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(pair(prompt)) for prompt in ("a", "b", "a")) + "\n")
    version = pairs.keep(*pairs.read_file(file), registry)
    rows, data = pairs.read(version)
    assert rows.to_list() == [pair(prompt) for prompt in ("a", "b", "a")]
    assert version.manifest.data.hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert data.hash == version.manifest.files[pairs.FILE].sha256
    assert pairs.keep(*pairs.read_file(file), registry).ref == version.ref


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (None, "does not exist"),
        ([], "fewer than two prompts"),
        ([pair("a"), pair("a")], "fewer than two prompts"),
        ([pair("a"), {"prompt": "b", "chosen": "yes", "rejected": "no"}], "line 2: expected"),
        ([pair("a"), {"prompt": []}], "line 2: expected"),
        ([pair("a"), 7], "line 2: expected"),
        ([pair("a"), {**pair("b"), "chosen": [{"role": "assistant", "content": None}]}], 'line 2: the "content" of a message must be a text'),
        ([pair("a"), {**pair("b"), "prompt": [{"role": "user", "content": [{"type": "text"}]}]}], "must be a text"),
        ([pair("a"), {**pair("b"), "rejected": pair("b")["chosen"]}], 'answers to "b" are the same'),
        ([pair("a"), pair("b"), {**pair("b"), "chosen": pair("b")["rejected"], "rejected": pair("b")["chosen"]}], "both ways round"),
        ([pair("a"), {**pair("b"), "prompt": []}], 'no message in "prompt"'),
        ([pair("a"), {**pair("b"), "rejected": []}], 'no message in "rejected"'),
        ([pair("a"), *[pair("b")] * 4], "only 2 of 5 pairs are different ones"),
        ([pair("a"), {**pair("b"), "chosen": [{"role": "assistant", "content": "cut \ud83d"}]}], "line 2: half of a surrogate pair"),
    ],
)
def test_a_file_that_holds_no_pairs_is_named_with_the_line(tmp_path, lines, said):
    file = tmp_path / "pairs.jsonl"
    if lines is not None:
        file.write_text("\n".join(json.dumps(line) for line in lines))
    with pytest.raises(LifecycleError, match=said):
        pairs.read_file(file)
