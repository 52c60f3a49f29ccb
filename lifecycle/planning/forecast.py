"""Tokens, arithmetic, time and memory of every stage of a preset, from its configuration alone."""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lifecycle.model.presets import ModelConfig
from lifecycle.presets import Preset
from lifecycle.registry import ModelVersion
from lifecycle.world.config import WorldConfig

CHARACTERS_PER_TOKEN = 6.0
"""Of the world's text with a vocabulary of a thousand tokens; a larger one packs more, so that a forecast is rather too high."""
TOKENS_PER_MESSAGE = 10
"""Around what it says: who speaks, where it begins and ends."""
SAMPLED = 200
"""Conversations, and preference pairs, that are drawn to learn how long they are."""
PROCESS_BYTES = 600 * 2**20
"""What the libraries take before there is a model, and the CPU's kernels with it."""
DOCUMENT_BYTES, CONVERSATION_BYTES = 2_550, 14_200
"""What a document of the world takes while it is told and tokenised, and a conversation; measured with the tiny preset's."""
PACE = {"pretrain": 1.0, "sft": 1.0, "rlhf-pairs": 0.5, "rlhf-reward": 1.0, "rlhf-dpo": 1.0, "rlhf": 0.8}
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


def forecast(config: Preset, flops_per_second: float, processes: int = 1) -> list[StagePlan]:
    """Every stage that takes time, on machines that train with so many floating-point operations in a second, all together.

    Memory is that of one of `processes` that share out each step.
    """
    shape, rlhf = config.pretrain.model, config.rlhf
    talk = min(tokens_per_conversation(config.world), config.sft.max_length)
    answer = tokens_per_answer(config.world)
    at_once = config.pretrain.batch_tokens // config.pretrain.grad_accumulation
    pair = 2 * answer
    group = rlhf.grpo_prompts * rlhf.grpo_group
    # Passes beside the one that trains (forward and backward, three forwards' worth): sampling 1, a reference model 1.
    stages = [
        ("pretrain", config.pretrain.tokens, 1.0, at_once),
        ("sft", config.sft.epochs * config.world.conversations * talk, 1.0, config.sft.batch_rows * config.sft.max_length),
        ("rlhf-pairs", config.world.prompts * rlhf.pair_answers * answer, 1 / 3, 0),
        ("rlhf-reward", rlhf.reward_steps * rlhf.reward_batch * pair, 1.0, rlhf.reward_batch * pair),
        ("rlhf-dpo", rlhf.dpo_steps * rlhf.dpo_batch * pair, 4 / 3, rlhf.dpo_batch * pair),
        ("rlhf", rlhf.grpo_steps * group * answer, 5 / 3, group * answer),
    ]
    plans = []
    for stage, tokens, passes, batch in stages:
        flops = tokens * passes * shape.flops_per_token(min(round(talk), shape.context_length))
        parts = processes if stage == "pretrain" and config.pretrain.sharded else 1
        memory = training_bytes(shape, math.ceil(batch / processes), parts) + data_bytes(config.world, stage)
        if stage in ("rlhf-dpo", "rlhf"):
            memory += 4 * shape.num_parameters
        plans.append(StagePlan(stage, round(tokens), flops, flops / (flops_per_second * PACE[stage]), memory))
    return plans


def data_bytes(world: WorldConfig, stage: str) -> int:
    """Bytes of the world's text in the process that runs the stages: documents stay, conversations are given back."""
    conversations = CONVERSATION_BYTES * world.conversations if stage == "sft" else 0
    return DOCUMENT_BYTES * world.documents + conversations


def training_bytes(shape: ModelConfig, tokens: int, parts: int = 1) -> int:
    """Bytes to train on `tokens` at once: the process, weights and gradients and two averages in fp32, and activations.

    `parts` is the number of processes over which weights, gradients and averages are spread.

    Activations, as in Korthikanti et al. (2022) but in fp32 and with SwiGLU: what each block keeps for its gradient, and
    the logits with theirs.
    """
    block = 10 * shape.hidden_size + 4 * shape.intermediate_size
    per_token = 4 * (shape.num_layers * block + 2 * shape.vocab_size)
    return PROCESS_BYTES + 16 * shape.num_parameters // parts + tokens * per_token


def tokens_per_conversation(world: WorldConfig) -> float:
    """Mean length, judged by the characters of a few."""
    from lifecycle.world.conversations import conversations

    drawn = conversations(replace(world, conversations=min(SAMPLED, world.conversations)), random.Random(f"plan {world.seed}"))
    return statistics.fmean(_tokens(one["messages"], one["tools"]) for one in drawn)


def tokens_per_answer(world: WorldConfig) -> float:
    """Mean length of a request and its answer, judged by the characters of a few."""
    from lifecycle.world.preferences import pairs

    drawn = pairs(min(SAMPLED, world.prompts), world.max_sentences, random.Random(f"plan {world.seed}"))
    return statistics.fmean(_tokens([*pair["prompt"], *pair["chosen"]]) for pair in drawn)


def _tokens(messages: Sequence[Mapping[str, Any]], tools: Any = None) -> float:
    said = sum(len(message.get("content") or "") + len(message.get("reasoning_content") or "") for message in messages)
    offered = len(json.dumps(tools)) if tools else 0
    return (said + offered) / CHARACTERS_PER_TOKEN + TOKENS_PER_MESSAGE * len(messages)


def measured(versions: Iterable[ModelVersion], preset: str) -> dict[str, Mapping[str, Any]]:
    """The cost of the newest version of each stage that a preset has trained; `versions` come oldest first."""
    found = {}
    for version in versions:
        if version.manifest.preset == preset:
            found[version.manifest.stage] = {"wall_seconds": version.manifest.seconds, **version.manifest.cost}
    return found
