"""Tokens, arithmetic, time and memory of every stage of a preset, from its configuration alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lifecycle.model.presets import ModelConfig
from lifecycle.presets import Preset
from lifecycle.registry import ModelVersion
from lifecycle.world.config import WorldConfig

CHARACTERS_PER_TOKEN = 3.0
"""Of the world's text with a vocabulary of a thousand tokens; a larger one packs more, so that a forecast is rather too high."""
SAMPLED = 200
"""Conversations that are drawn to learn how long they are."""
PROCESS_BYTES = 600 * 2**20
"""What the libraries take before there is a model."""
PACE = {"pretrain": 1.0, "sft": 1.0, "rlhf-pairs": 0.2, "rlhf-reward": 1.0, "rlhf-dpo": 1.0, "rlhf": 0.5}
"""Arithmetic in a second beside pretraining's: who samples waits for one token after the other."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage will take."""

    stage: str
    tokens: int
    """Trained on; of the pairs, sampled."""
    flops: float
    seconds: float
    memory_bytes: int
    """At most resident, on the machine or the GPU that trains."""


def forecast(config: Preset, flops_per_second: float) -> list[StagePlan]:
    """Every stage that takes time, on a machine that trains with so many floating-point operations in a second."""
    shape, rlhf = config.pretrain.model, config.rlhf
    turn = tokens_per_conversation(config.world)
    at_once = config.pretrain.batch_tokens // config.pretrain.grad_accumulation
    row = min(turn, config.sft.max_length)
    judged = 2 * row  # a pair is two answers
    group = rlhf.grpo_prompts * rlhf.grpo_group
    # Passes beside the one that trains (forward and backward, three forwards' worth): sampling 1, a reference model 1.
    stages = [
        ("pretrain", config.pretrain.tokens, 1.0, at_once),
        ("sft", config.sft.epochs * config.world.conversations * row, 1.0, config.sft.batch_rows * config.sft.max_length),
        ("rlhf-pairs", config.world.prompts * rlhf.pair_answers * row, 1 / 3, 0),
        ("rlhf-reward", rlhf.reward_steps * rlhf.reward_batch * judged, 1.0, rlhf.reward_batch * judged),
        ("rlhf-dpo", rlhf.dpo_steps * rlhf.dpo_batch * judged, 4 / 3, rlhf.dpo_batch * judged),
        ("rlhf", rlhf.grpo_steps * group * row, 5 / 3, group * (row + rlhf.grpo_tokens)),
    ]
    plans = []
    for stage, tokens, passes, batch in stages:
        flops = tokens * passes * shape.flops_per_token(min(row, shape.context_length))
        memory = training_bytes(shape, int(batch)) + (4 * shape.num_parameters if stage in ("rlhf-dpo", "rlhf") else 0)
        plans.append(StagePlan(stage, round(tokens), flops, flops / (flops_per_second * PACE[stage]), memory))
    return plans


def training_bytes(shape: ModelConfig, tokens: int) -> int:
    """Bytes to train on `tokens` at once: the process, weights and gradients and two averages in fp32, and activations.

    Activations, as in Korthikanti et al. (2022) but in fp32 and with SwiGLU: what each block keeps for its gradient, and
    the logits with theirs.
    """
    block = 10 * shape.hidden_size + 4 * shape.intermediate_size
    per_token = 4 * (shape.num_layers * block + 2 * shape.vocab_size)
    return PROCESS_BYTES + 16 * shape.num_parameters + tokens * per_token


def tokens_per_conversation(world: WorldConfig) -> int:
    """Mean length, judged by the characters of a few."""
    from lifecycle.world.conversations import conversations

    count = min(SAMPLED, world.conversations)
    drawn = conversations(count, world.max_sentences, random.Random(f"plan {world.seed}"))
    return round(sum(len(str(one)) for one in drawn) / count / CHARACTERS_PER_TOKEN)


def measured(versions: Iterable[ModelVersion], preset: str) -> dict[str, Mapping[str, Any]]:
    """The cost of the newest version of each stage that a preset has trained; `versions` come oldest first."""
    found = {}
    for version in versions:
        if version.manifest.preset == preset:
            found[version.manifest.stage] = {"wall_seconds": version.manifest.seconds, **version.manifest.cost}
    return found
