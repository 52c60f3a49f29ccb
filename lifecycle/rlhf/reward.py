"""The reward model: a version with a scalar head that scores the better of two answers higher (Bradley and Terry, 1952)."""

from __future__ import annotations

import time

from datasets import Dataset

from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.config import RLHFConfig

NAME = "rlhf-reward"
HELD_OUT_PAIRS = 200


def run(config: RLHFConfig, registry: ModelRegistry, *, parent: ModelVersion, pairs: Dataset, data: DataRef, preset: str | None = None) -> ModelVersion:
    """Train on preference pairs (columns "prompt", "chosen", "rejected") and publish "rlhf-reward/N".

    Its headline metric is the share of held-out pairs in which the chosen answer gets the higher score.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    from lifecycle import trainers
    from lifecycle.model.optimizer import MuonAdamW

    work = fingerprint(NAME, config, [parent], data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent])
    started = time.perf_counter()
    tokenizer = trainers.load_tokenizer(parent)
    set_seed(config.seed)  # the score head is new, and its random weights are part of the run
    model = AutoModelForSequenceClassification.from_pretrained(parent.path, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    held_out, rest = _split(pairs)
    trainer = RewardTrainer(
        model,
        args=RewardConfig(
            **trainers.arguments(workspace, config.seed, config.dtype, config.save_every),
            max_steps=config.reward_steps,
            per_device_train_batch_size=config.reward_batch,
            per_device_eval_batch_size=100,
            learning_rate=config.reward_lr,
            warmup_steps=0.1,
            center_rewards_coefficient=0.01,
        ),
        train_dataset=rest,
        eval_dataset=held_out,
        processing_class=tokenizer,
        optimizers=(MuonAdamW(model, lr=config.reward_lr, matrix_lr=5 * config.reward_lr), None),
    )
    history = trainers.train(trainer)
    measured = trainer.evaluate()

    version = registry.publish(
        NAME,
        lambda directory: trainers.write(directory, model, tokenizer, parent, history),
        parents=[parent],
        config=config,
        preset=preset,
        data=data,
        metrics={"pair_accuracy": measured["eval_accuracy"], "loss": measured["eval_loss"], "held_out_pairs": len(held_out)},
        seed=config.seed,
        fingerprint=work,
        seconds=time.perf_counter() - started,
        card="A reward model: one score for a whole conversation. It does not write.",
    )
    registry.discard_workspace(NAME, work)
    return version


def _split(pairs: Dataset) -> tuple[Dataset, Dataset]:
    count = min(HELD_OUT_PAIRS, len(pairs) // 5)
    return pairs.select(range(count)), pairs.select(range(count, len(pairs)))
