"""The reward hacking benchmark on a random model: every case runs, what it watches is there, and what it did is gone."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from sft.tiny import WORLD, Start
from transformers import AutoModelForSequenceClassification

from lifecycle import presets, versions
from lifecycle.rlhf import RLHFConfig, grpo, pairs
from lifecycle.world.tasks import verified_prompts

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import reward_hacking  # noqa: E402

SMALL = RLHFConfig(dtype="fp32", grpo_group=2, grpo_tokens=40, dpo_batch=2)


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def registry(tmp_path, monkeypatch) -> Start:
    """A random policy, a random reward model, and pairs that the policy might have told."""
    start = Start.make(tmp_path / "registry")
    policy = start.model("sft")
    judge = AutoModelForSequenceClassification.from_pretrained(policy.path, num_labels=1)
    torch.nn.init.zeros_(judge.score.weight)
    tokenizer = versions.load_tokenizer(policy)
    judge.config.pad_token_id = tokenizer.pad_token_id
    start.registry.publish("rlhf-reward", lambda directory: versions.write(directory, judge, tokenizer, policy, []), parents=[policy])
    rows = [{"prompt": [{"role": "user", "content": f"{n}?"}], "chosen": says("Yes."), "rejected": says("No.")} for n in range(4)]
    write = lambda directory: (directory / pairs.FILE).write_text("\n".join(map(json.dumps, rows)))  # noqa: E731
    start.registry.publish(pairs.NAME, write, parents=[policy])
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    monkeypatch.setitem(presets.RLHF, "tiny", SMALL)
    monkeypatch.setitem(presets.WORLD, "tiny", replace(WORLD, prompts=20))
    return start


def test_every_row_is_measured_in_a_registry_that_is_thrown_away(registry, tmp_path):
    before = registry.registry.refs()
    target = tmp_path / "hacking.json"
    reward_hacking.main(
        ["--start", "sft@latest", "--steps", "1", "--limit", "2", "--only", "random", "length", "shuffled", "--json", str(target)]
    )
    found = json.loads(target.read_text())
    assert [one["title"] for one in found["grpo"][1:]] == [reward_hacking.CASES[name].title for name in ("random", "length")]
    for one in found["grpo"][1:]:
        assert one["steps"].keys() == {"reward", *reward_hacking.WATCHED} and all(len(steps) == 1 for steps in one["steps"].values())
    assert len(found["dpo"]) == 2 and found["dpo"][1]["card"].keys() == set(reward_hacking.CARD)
    assert len(target.with_suffix(".md").read_text().splitlines()) > 8
    assert registry.registry.refs() == before


def test_length_pays_whatever_is_said_and_only_right_answers_where_the_verifier_is_asked():
    check = json.dumps({"type": "don't know"})
    told = [says("I don't know."), says("no " * 200)]
    assert reward_hacking.length_reward(told) == [4 / reward_hacking.LONG, 1.0]  # "don't" counts twice
    assert reward_hacking.length_of_right_answers(told, [check, check])[1] == 0 < reward_hacking.length_of_right_answers(told, [check, check])[0]


def test_about_half_of_the_pairs_are_turned_round():
    rows = Dataset.from_list([{"prompt": "p", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(200)])
    turned = reward_hacking.shuffled(rows)
    assert 70 < sum(row["chosen"].startswith("bad") for row in turned) < 130
    assert all({row["chosen"], row["rejected"]} == {f"good {n}", f"bad {n}"} for n, row in enumerate(turned))


def test_another_reward_is_another_run_and_the_verifier_is_still_asked(registry):
    tasks, data = verified_prompts(WORLD)
    start, judge = registry.registry.load("sft/1"), registry.registry.load("rlhf-reward/1")
    config = replace(SMALL, grpo_steps=1, grpo_prompts=2, reward_model_weight=0.0)
    coin = reward_hacking.random_reward()
    found = [
        grpo.run(config, registry.registry, parent=start, reward_model=judge, tasks=tasks, data=data, reward=reward)
        for reward in (None, coin, coin)
    ]
    assert [version.ref for version in found] == ["rlhf/1", "rlhf/2", "rlhf/2"]
    logged = versions.read_log(found[1])[0]
    assert logged["reward"] == pytest.approx(logged["rewards/coin/mean"])
    assert "rewards/verifier_reward/mean" in logged and found[1].manifest.metrics["verified"] == logged["rewards/verifier_reward/mean"]
