"""Learning from samples: judge them, and do more of what beat its own group, by GRPO (Shao et al., 2024) or RLOO."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from datasets import Dataset

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.training.processes import processes

NAME = "rlhf"
REHEARSED_TOKENS = 512
"""Longest part of a conversation that is rehearsed."""
LENGTH = "completions/mean_length"
STEP_METRICS = {"kl": "kl", "entropy": "entropy", "answer_tokens": LENGTH, "reward": "reward"}
"""What the manifest says of the last step, and what the training log calls it."""
CALLED = {"grpo": "group-relative policy optimisation", "rloo": "policy optimisation with a leave-one-out baseline"}


Reward = Callable[..., list[float]]
"""Called as TRL calls reward functions: `completions` (lists of messages) and each column of the tasks by its name."""


def run(
    config: RLHFConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    reward_model: ModelVersion,
    tasks: Dataset,
    data: DataRef,
    preset: str | None = None,
    reward: Reward | None = None,
    conversations: tuple[Dataset, DataRef] | None = None,
) -> ModelVersion:
    """Train on prompts with verifiers (columns "prompt" and "check") and publish "rlhf/N".

    The reward of an answer is 1 or 0 from its verifier plus `reward_model_weight` times the reward model's score. Another
    `reward` takes the verifier's place, whose verdict is then only logged; by its name a run is known. Some `conversations` are learnt on in every step, as
    `rehearsal_weight` says, lest the reward's gain be everything else's loss.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    from lifecycle import trainers, versions
    from lifecycle.rlhf.engines import open_engine
    from lifecycle.rlhf.policy_trainer import ALGORITHMS
    from lifecycle.rlhf.unpadded import leave_padding_out
    from lifecycle.rlhf.watch import Limit, Watch

    if conversations is not None and config.rehearsal_weight:
        data = _both(data, conversations[1])
    work = fingerprint(NAME if reward is None else f"{NAME} by {reward.__name__}", config, [parent, reward_model], data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, reward_model])
    meter = trainers.meter(workspace)
    model, tokenizer = versions.load(parent)
    judge = AutoModelForSequenceClassification.from_pretrained(reward_model.path, num_labels=1, dtype=torch.float32)
    judge_tokenizer = versions.load_tokenizer(parent)
    group = trainers.share(config.grpo_prompts, "grpo_prompts") * config.grpo_group  # answers that this process samples
    with versions.merged(parent) as whole:
        engine = open_engine(config.rollouts, whole.path, dtype=config.dtype, sequences=group)
    limits = [Limit("the KL divergence", "kl", config.kl_limit), Limit("the mean length", LENGTH, config.length_limit)]
    watch = Watch(limits, config.on_runaway)
    trainer_of, arguments_of = ALGORITHMS[config.algorithm]
    trainer = trainer_of(
        model,
        engine=engine,
        rehearsal=_rehearsal(config, conversations, tokenizer),
        reward_funcs=[verifier_reward, judge] if reward is None else [verifier_reward, judge, reward],
        reward_processing_classes=[None, judge_tokenizer] if reward is None else [None, judge_tokenizer, None],
        args=arguments_of(
            **{**trainers.arguments(workspace, config.seed, config.dtype, config.save_every), "logging_steps": 1},
            max_steps=config.grpo_steps,
            per_device_train_batch_size=group,
            num_generations=config.grpo_group,
            max_completion_length=config.grpo_tokens,
            learning_rate=config.grpo_lr,
            beta=config.grpo_beta,
            temperature=config.grpo_temperature,
            reward_weights=[1.0, config.reward_model_weight] if reward is None else [0.0, config.reward_model_weight, 1.0],
            mask_truncated_completions=True,
        ),
        train_dataset=tasks,
        processing_class=tokenizer,
        callbacks=[watch],
    )
    references = [] if trainer.ref_model is None else [trainer.ref_model]
    leave_padding_out(model, judge, *references, dtype=config.dtype, temperature=config.grpo_temperature)
    with closing(engine):
        history = trainers.train(trainer, meter, "grpo_lr")
    watch.recall(trainer.args, trainer.state)
    watch.restore(model)
    kept = history
    if watch.ended is not None:  # what the steps after that say is of weights that are not published
        kept = [entry for entry in history if entry["step"] <= watch.good_step] or history[:1]
    metrics = {
        "verified": mean_of_last(kept, "rewards/verifier_reward/mean"),
        "verified_at_start": float(history[0]["rewards/verifier_reward/mean"]),
        **{name: trainers.last(kept, key) for name, key in STEP_METRICS.items()},
    }
    if watch.ended is not None:
        metrics["ended_at_step"] = history[-1]["step"]
    return trainers.publish(
        registry,
        NAME,
        (model, tokenizer, history),
        meter,
        parents=[parent, reward_model],
        config=config,
        preset=preset,
        data=data,
        metrics=metrics,
        fingerprint=work,
        card=f"{parent.ref} after {CALLED[config.algorithm]} against the world's verifiers and {reward_model.ref}.",
    )


def _both(tasks: DataRef, conversations: DataRef) -> DataRef:
    digest = hashlib.sha256(f"{tasks.hash} {conversations.hash}".encode()).hexdigest()
    return DataRef(f"{tasks.id} rehearsing {conversations.id}", digest, tasks.detail)


def _rehearsal(config: RLHFConfig, conversations: tuple[Dataset, DataRef] | None, tokenizer: Any) -> Any:
    from lifecycle import trainers
    from lifecycle.rlhf.rehearsal import Rehearsal

    if conversations is None or not config.rehearsal_weight:
        return None
    return Rehearsal.of(
        conversations[0],
        tokenizer,
        steps=config.grpo_steps,
        batch=trainers.share(config.rehearsal_batch, "rehearsal_batch"),
        longest=REHEARSED_TOKENS,
        weight=config.rehearsal_weight,
        seed=config.seed * 1009 + processes().rank,  # every process has conversations of its own
    )


def verifier_reward(completions: list[list[dict[str, Any]]], check: list[str], **columns: Any) -> list[float]:
    """1 for an answer that passes its check, 0 for one that does not. Raises LifecycleError when a check itself fails."""
    return [_judge(one, completion[-1]["content"]) for one, completion in zip(check, completions, strict=True)]


def _judge(check: str, answer: str) -> float:
    from lifecycle.world.verifiers import verify

    try:
        return float(verify(json.loads(check), answer))
    except Exception as error:
        raise LifecycleError(
            f"the verifier failed on the check {check}: {error!r}; nothing was published: mend the check, and the same command "
            "goes on from its last checkpoint"
        ) from error


def mean_of_last(history: list[dict], key: str, count: int = 5) -> float:
    """Mean of the last logged values: a single step of a few prompts is noisy."""
    values = [float(entry[key]) for entry in history if key in entry][-count:]
    return sum(values) / len(values)
