"""What was taught before is learnt on beside a reward, by the same loss as in supervised fine-tuning."""

from dataclasses import replace

import pytest
import torch
from sft.tiny import WORLD, same, weights

from lifecycle import versions
from lifecycle.errors import LifecycleError
from lifecycle.rlhf import RLHFConfig
from lifecycle.rlhf.rehearsal import Rehearsal
from lifecycle.sft.data import tokenize
from lifecycle.world.conversations import sft_conversations

from .test_policy import CONFIG, judged, learn

__all__ = ["judged"]
EIGHT_STEPS = replace(CONFIG, grpo_steps=8, grpo_tokens=8, reward_model_weight=0.0, grpo_beta=0.0, grpo_lr=3e-3, rehearsal_weight=0.3)


@pytest.fixture(scope="module")
def conversations():
    return sft_conversations(WORLD)


def rehearsal(version, conversations, **how):
    how = {"steps": 3, "batch": 4, "longest": 512, "weight": 1.0, "seed": 0} | how
    return Rehearsal.of(conversations[0], versions.load_tokenizer(version), **how)


def test_the_loss_is_that_of_each_conversation_alone(start, conversations):
    version = start.registry.load("sft/1")
    model = versions.load_model(version)
    given = rehearsal(version, conversations, weight=0.5)
    total, count = 0.0, 0
    for tokens, labels in given.batches[1]:
        told = int((labels[1:] != -100).sum())
        total += model(input_ids=tokens[None], labels=labels[None]).loss * told
        count += told
    torch.testing.assert_close(given.loss(model, 1), 0.5 * total / count)


def test_only_the_assistants_words_are_rehearsed(start, conversations):
    version = start.registry.load("sft/1")
    given = rehearsal(version, conversations)
    masks = {tuple(row["input_ids"]): row["assistant_masks"] for row in tokenize(conversations[0], versions.load_tokenizer(version))}
    for tokens, labels in (row for batch in given.batches for row in batch):
        assert (labels != -100).int().tolist() == masks[tuple(tokens.tolist())]


def test_without_any_reward_what_was_taught_is_still_learnt(judged, conversations, monkeypatch):
    monkeypatch.setattr("lifecycle.world.verifiers.verify", lambda check, answer: False)
    start = judged.registry.load("sft/1")
    assert same(weights(learn(judged, EIGHT_STEPS)), weights(start))  # no answer beats its group
    version = learn(judged, EIGHT_STEPS, conversations)
    losses = [entry["rehearsal"] for entry in versions.read_log(version) if "rehearsal" in entry]
    assert len(losses) == 8
    given = rehearsal(start, conversations, seed=7)
    before, after = (given.loss(versions.load_model(one), 0).item() for one in (start, version))
    assert after < before - 0.1
    assert version.manifest.data.id.endswith(f"rehearsing {conversations[1].id}")


def test_a_negative_weight_is_refused():
    with pytest.raises(LifecycleError, match="rehearsal_weight must not be negative"):
        RLHFConfig(rehearsal_weight=-1)
