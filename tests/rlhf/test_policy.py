"""GRPO and RLOO with rollouts of the serving engine, and what ends a run that goes wrong."""

from dataclasses import replace

import pytest
from sft.tiny import WORLD, same, weights

from lifecycle import versions
from lifecycle.errors import LifecycleError
from lifecycle.rlhf import RLHFConfig, grpo
from lifecycle.rlhf.watch import PATIENCE
from lifecycle.world.tasks import verified_prompts
from serving.rollouts import EngineRollouts

CONFIG = RLHFConfig(dtype="fp32", grpo_steps=2, grpo_prompts=4, grpo_group=4, grpo_tokens=300)


@pytest.fixture(autouse=True)
def by_the_serving_engine(monkeypatch):
    monkeypatch.setattr("lifecycle.rlhf.engines.open_engine", lambda _, directory, **how: EngineRollouts(directory, **how))


@pytest.fixture
def judged(start):
    """A registry with a policy and a reward model, both random."""
    import torch
    from transformers import AutoModelForSequenceClassification

    policy = start.registry.load("sft/1")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(policy.path, num_labels=1)
    tokenizer = versions.load_tokenizer(policy)
    model.config.pad_token_id = tokenizer.pad_token_id
    start.registry.publish("rlhf-reward", lambda directory: versions.write(directory, model, tokenizer, policy, []), parents=[policy])
    return start


def learn(judged, config=CONFIG, conversations=None):
    tasks, data = verified_prompts(WORLD)
    parent, judge = judged.registry.load("sft/1"), judged.registry.load("rlhf-reward/1")
    return grpo.run(config, judged.registry, parent=parent, reward_model=judge, tasks=tasks, data=data, conversations=conversations)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_each_step_logs_what_shows_a_hacked_reward(judged, algorithm):
    config = replace(CONFIG, algorithm=algorithm, grpo_lr=1e-2, reward_model_weight=1.0)
    version = learn(judged, config)
    steps = [entry for entry in versions.read_log(version) if "reward" in entry]
    assert len(steps) == config.grpo_steps
    for entry in steps:
        assert {"kl", "entropy", "completions/mean_length", "rewards/verifier_reward/mean"} <= entry.keys()
        assert 1 <= entry["completions/mean_length"] <= config.grpo_tokens
    assert version.manifest.metrics["entropy"] == steps[-1]["entropy"] > 0
    assert "ended_at_step" not in version.manifest.metrics


@pytest.mark.parametrize("limits", [{"length_limit": 1.0}, {"kl_limit": 1e-9}])
def test_a_runaway_is_ended_with_the_last_good_weights(judged, limits):
    version = learn(judged, replace(CONFIG, grpo_steps=8, reward_model_weight=1.0, **limits))
    ended = version.manifest.metrics["ended_at_step"]
    assert PATIENCE <= ended < 8
    if "length_limit" in limits:  # beyond it from the first step on: nothing was good but the start
        assert ended == PATIENCE
        start = weights(judged.registry.load("sft/1"))
        assert same(weights(version), start)


def test_a_warning_lets_the_run_go_on(judged, caplog):
    version = learn(judged, replace(CONFIG, grpo_steps=4, length_limit=1.0, on_runaway="warn"))
    assert "ended_at_step" not in version.manifest.metrics
    assert "the reward may be hacked" in caplog.text


def test_a_verifier_that_fails_is_named_and_nothing_is_published(judged, monkeypatch):
    def broken(check, answer):
        raise ZeroDivisionError("no such thing")

    monkeypatch.setattr("lifecycle.world.verifiers.verify", broken)
    with pytest.raises(LifecycleError, match="the verifier failed on the check .*no such thing.*nothing was published"):
        learn(judged)
    assert not judged.registry.versions("rlhf")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"algorithm": "ppo"}, 'unknown algorithm "ppo": choose one of grpo, rloo'),
        ({"on_runaway": "cry"}, 'unknown on_runaway "cry": choose one of stop, warn'),
        ({"kl_limit": -1.0}, "kl_limit must not be negative"),
        ({"kl_limit": 1.0, "grpo_beta": 0.0}, "kl_limit needs the divergence"),
    ],
)
def test_what_cannot_work_is_refused(wrong, said):
    with pytest.raises(LifecycleError, match=said):
        RLHFConfig(**wrong)

