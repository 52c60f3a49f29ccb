"""The reward model: a version with a scalar head that scores the better of two answers higher (Bradley and Terry, 1952)."""

from __future__ import annotations

import json
from collections import Counter

from datasets import Dataset

from lifecycle.registry import ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.rlhf.pairs import read

NAME = "rlhf-reward"
HELD_OUT_PAIRS = 400


def run(config: RLHFConfig, registry: ModelRegistry, *, parent: ModelVersion, pairs: ModelVersion, preset: str | None = None) -> ModelVersion:
    """Train on the preference pairs of a "rlhf-pairs" version and publish "rlhf-reward/N".

    Its headline metric is the share of held-out pairs in which the chosen answer gets the higher score; "calibration" says
    whether it is as sure as it is right (see lifecycle.rlhf.calibration).
    """
    import torch
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from lifecycle import trainers, versions
    from lifecycle.model.optimizer import MuonAdamW
    from lifecycle.rlhf.calibration import calibration, margins
    from lifecycle.rlhf.unpadded import leave_padding_out

    work = fingerprint(NAME, config, [parent, pairs])
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, pairs])
    meter = trainers.meter(workspace)
    rows, data = read(pairs)
    tokenizer = versions.load_tokenizer(parent)
    model = AutoModelForSequenceClassification.from_pretrained(parent.path, num_labels=1, dtype=torch.float32)
    model.config.pad_token_id = tokenizer.pad_token_id
    torch.nn.init.zeros_(model.score.weight)  # no answer is preferred yet, where random weights would prefer some
    held_out, rest = split(rows)
    trainer = RewardTrainer(
        model,
        args=RewardConfig(
            **trainers.arguments(workspace, config.seed, config.dtype, config.save_every),
            max_steps=config.reward_steps,
            per_device_train_batch_size=trainers.share(config.reward_batch, "reward_batch"),
            per_device_eval_batch_size=len(held_out),  # TRL averages over batches, however small the last one is
            learning_rate=config.reward_lr,
            warmup_steps=0.1,
            center_rewards_coefficient=0.01,
        ),
        train_dataset=rest,
        eval_dataset=held_out,
        processing_class=tokenizer,
        optimizers=(MuonAdamW(model, lr=config.reward_lr, matrix_lr=5 * config.reward_lr), None),
    )
    leave_padding_out(model, dtype=config.dtype)
    history = trainers.train(trainer, meter, "reward_lr")
    measured = trainer.evaluate()
    sure = calibration(margins(model, tokenizer, list(held_out)))
    return trainers.publish(
        registry,
        NAME,
        (model, tokenizer, history),
        meter,
        parents=[parent, pairs],
        config=config,
        preset=preset,
        data=data,
        metrics={
            "pair_accuracy": measured["eval_accuracy"],
            "loss": measured["eval_loss"],
            "held_out_pairs": len(held_out),
            "calibration_error": sure["error"],
            "calibration": sure["bins"],
        },
        fingerprint=work,
        card="A reward model: one score for a whole conversation. It does not write.",
    )


def split(pairs: Dataset) -> tuple[Dataset, Dataset]:
    """(held out, rest): no prompt is in both, so a score that knows a prompt by heart gains nothing.

    A prompt with more pairs than are to be held out is learnt from, unless there are no others.
    """
    prompts = [json.dumps(row) for row in pairs["prompt"]]
    wanted, kept, count, pairs_of = max(1, min(HELD_OUT_PAIRS, len(pairs) // 5)), set(), 0, Counter(prompts)
    for prompt, number in pairs_of.items():
        if count >= wanted:
            break
        if number <= wanted:
            kept.add(prompt)
            count += number
    kept = kept or {min(pairs_of, key=pairs_of.__getitem__)}
    held_out = [number for number, prompt in enumerate(prompts) if prompt in kept]
    rest = [number for number, prompt in enumerate(prompts) if prompt not in kept]
    return pairs.select(held_out), pairs.select(rest)
