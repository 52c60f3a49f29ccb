"""Reward model, DPO and GRPO on a tiny random model: what each starts from, publishes, and picks up again."""

import json
import random
from dataclasses import replace

import pytest
import torch
from sft.tiny import WORLD, Start, pressing_ctrl_c, same, weights
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lifecycle import trainers, versions
from lifecycle.errors import LifecycleError
from lifecycle.rlhf import RLHFConfig, run
from lifecycle.rlhf.grpo import verifier_reward
from lifecycle.world.tasks import SKILLS, draw_tasks, verified_prompts
from lifecycle.world.verifiers import verify

CONFIG = RLHFConfig(
    dtype="fp32",
    save_every=100,
    pair_answers=3,
    reward_steps=3,
    reward_batch=4,
    dpo_steps=3,
    dpo_batch=4,
    grpo_steps=3,
    grpo_prompts=2,
    grpo_group=2,
    grpo_tokens=200,  # long enough for a random model to end some turns: only those count
)


def reinforce(start: Start, config: RLHFConfig = CONFIG, **arguments):
    tasks, data = verified_prompts(WORLD)
    return run(config, start.registry, tasks=tasks, data=data, **{"parent": start.registry.load("sft/1"), **arguments})


@pytest.fixture(scope="module")
def finished(template, tmp_path_factory) -> Start:
    """A registry after a run that nothing got in the way of."""
    alone = template.copy(tmp_path_factory.mktemp("finished") / "registry")
    alone.model("sft")
    assert reinforce(alone).ref == "rlhf/1"
    return alone


def test_every_part_is_published_with_its_parents(finished):
    parents = lambda ref: [parent.ref for parent in finished.registry.load(ref).manifest.parents]  # noqa: E731
    assert parents("rlhf-pairs/1") == ["sft/1"]
    assert parents("rlhf-reward/1") == parents("rlhf-dpo/1") == ["sft/1", "rlhf-pairs/1"]
    assert parents("rlhf/1") == ["rlhf-dpo/1", "rlhf-reward/1"]
    assert not finished.workspaces()


def test_the_reward_model_gives_a_whole_conversation_one_score(finished):
    version = finished.registry.load("rlhf-reward/1")
    assert 0 <= version.manifest.metrics["pair_accuracy"] <= 1
    held_out = version.manifest.metrics["held_out_pairs"]
    assert sum(row["pairs"] for row in version.manifest.metrics["calibration"]) == held_out > 0
    assert 0 <= version.manifest.metrics["calibration_error"] <= 1
    model, report = AutoModelForSequenceClassification.from_pretrained(version.path, output_loading_info=True)
    assert not any(report.values()), report
    assert model(torch.tensor([[5, 6, 7]])).logits.shape == (1, 1)


def test_dpo_starts_at_its_reference_and_moves(finished):
    version = finished.registry.load("rlhf-dpo/1")
    assert version.manifest.metrics["first_margin"] == pytest.approx(0, abs=1e-4)  # so its own loss is ln 2
    assert not same(weights(version), weights(finished.registry.load("sft/1")))


@pytest.mark.parametrize("ref", ["rlhf-dpo/1", "rlhf/1"])
def test_what_comes_out_still_writes(finished, ref):
    version = finished.registry.load(ref)
    model, report = AutoModelForCausalLM.from_pretrained(version.path, output_loading_info=True)
    assert not any(report.values()), report
    parent = AutoModelForCausalLM.from_pretrained(finished.registry.load("sft/1").path)
    assert model.generation_config.to_diff_dict() == parent.generation_config.to_diff_dict()


def test_grpo_logs_how_much_is_verified(finished):
    version = finished.registry.load("rlhf/1")
    log = versions.read_log(version)
    shares = [entry["rewards/verifier_reward/mean"] for entry in log if "rewards/verifier_reward/mean" in entry]
    assert len(shares) == CONFIG.grpo_steps and all(0 <= share <= 1 for share in shares)
    assert version.manifest.metrics["verified_at_start"] == shares[0]
    assert version.manifest.metrics["verified"] == pytest.approx(sum(shares) / len(shares))
    assert not same(weights(version), weights(finished.registry.load("rlhf-dpo/1")))


def test_interrupted_and_resumed_equals_uninterrupted(start, finished, monkeypatch):
    with monkeypatch.context() as patch:
        pressing_ctrl_c(patch, step=1)
        for name in ("rlhf-reward", "rlhf-dpo", "rlhf"):  # each run ends the part that the last one began
            with pytest.raises(KeyboardInterrupt):
                reinforce(start)
            assert not start.registry.versions(name)
    reinforce(start)
    for ref in ("rlhf-reward/1", "rlhf-dpo/1", "rlhf/1"):
        assert same(weights(start.registry.load(ref)), weights(finished.registry.load(ref))), ref
    assert not start.workspaces()


def test_a_run_that_is_published_is_not_repeated(finished, monkeypatch):
    monkeypatch.setattr(trainers, "train", lambda trainer, meter: pytest.fail("trained again"))
    monkeypatch.setattr("lifecycle.rlhf.pairs._judged", lambda *arguments: pytest.fail("sampled again"))
    assert reinforce(finished).ref == "rlhf/1"


def test_steps_of_zero_leave_a_part_out(start):
    version = reinforce(start, replace(CONFIG, grpo_steps=0, dpo_steps=1, reward_steps=1))
    assert version.ref == "rlhf-dpo/1" and not start.registry.versions("rlhf")


def test_a_loss_that_is_not_finite_publishes_nothing(start):
    with pytest.raises(LifecycleError, match="nothing was published"):
        reinforce(start, replace(CONFIG, reward_steps=1, dpo_lr=1e38))
    assert not start.registry.versions("rlhf-dpo")


def test_a_parent_of_the_wrong_stage_is_refused(start):
    with pytest.raises(LifecycleError, match='but pretrain/1 is of stage "pretrain": use --parent sft@latest'):
        reinforce(start, parent=start.model("pretrain"))
    assert not start.registry.versions("rlhf-reward")


def test_the_verifiers_reward_is_the_verifiers_verdict():
    tasks = [task for skill in SKILLS for task in draw_tasks(skill, 5, 4, random.Random(1), held_out=False)]
    answers = [
        "I don't know.",
        "Anna is in the park.",
        "1 + 1 = 2.",
        '<tool_call>{"name": "clock", "arguments": {}}</tool_call>',
    ]
    told = [(task["check"], answer) for task in tasks for answer in answers]
    rewards = verifier_reward(
        [[{"role": "assistant", "content": answer}] for _, answer in told],
        [json.dumps(check) for check, _ in told],
        prompts=[],
    )
    assert rewards == [float(verify(check, answer)) for check, answer in told]
    assert 0 < sum(rewards) < len(rewards)


def test_the_advantages_of_a_group_sum_to_zero(start, tmp_path, monkeypatch):
    """Of every batch that GRPO trains on, as TRL hands it to the loss."""
    from trl import GRPOTrainer

    seen, compute = [], GRPOTrainer.compute_loss

    def watch(trainer, model, inputs, *args, **kwargs):
        seen.extend(zip(map(tuple, inputs["prompt_ids"].tolist()), inputs["advantages"].tolist(), strict=True))
        return compute(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(GRPOTrainer, "compute_loss", watch)
    reinforce(start, replace(CONFIG, dpo_steps=0, grpo_steps=1, grpo_group=4))
    groups: dict[tuple, list[float]] = {}
    for prompt, advantage in seen:
        groups.setdefault(prompt, []).append(advantage)
    assert [len(group) for group in groups.values()] == [4] * CONFIG.grpo_prompts
    for group in groups.values():
        assert sum(group) == pytest.approx(0, abs=1e-3)
        assert max(group) > 0  # the reward model tells answers apart even where the verifier does not
