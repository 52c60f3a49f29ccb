"""Direct preference optimisation (Rafailov et al., 2023): learn from pairs, with the starting model as the anchor."""

from __future__ import annotations

from lifecycle.registry import ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.config import RLHFConfig
from lifecycle.rlhf.pairs import read

NAME = "rlhf-dpo"


def run(
    config: RLHFConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    pairs: ModelVersion,
    preset: str | None = None,
    batch: str = "dpo_batch",
    rate: str = "dpo_lr",
) -> ModelVersion:
    """Train on the preference pairs of a "rlhf-pairs" version and publish "rlhf-dpo/N".

    `batch`, `rate`: what whoever set them calls these settings, for advice.
    """
    from trl import DPOConfig, DPOTrainer

    from lifecycle import trainers, versions
    from lifecycle.rlhf.unpadded import leave_padding_out

    work = fingerprint(NAME, config, [parent, pairs])
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, pairs])
    meter = trainers.meter(workspace)
    rows, data = read(pairs)
    model, tokenizer = versions.load(parent)
    references = versions.references(parent)
    trainer = DPOTrainer(
        model,
        ref_model=references[0] if references else None,
        args=DPOConfig(
            **trainers.arguments(workspace, config.seed, config.dtype, config.save_every),
            max_steps=config.dpo_steps,
            per_device_train_batch_size=trainers.share(config.dpo_batch, batch),
            learning_rate=config.dpo_lr,
            warmup_steps=0.1,
            beta=config.dpo_beta,
            loss_type=["sigmoid", "sft"],  # the second term is RPO's (Pang et al., 2024)
            loss_weights=[1.0, config.dpo_sft_weight],
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    leave_padding_out(model, *references, dtype=config.dtype)
    history = trainers.train(trainer, meter, rate)
    metrics = {
        "margin": trainers.last(history, "rewards/margins"),
        "pair_accuracy": trainers.last(history, "rewards/accuracies"),
        "first_margin": float(history[0]["rewards/margins"]),
        "loss": trainers.last(history, "loss"),
    }
    return trainers.publish(
        registry,
        NAME,
        (model, tokenizer, history),
        meter,
        parents=[parent, pairs],
        config=config,
        preset=preset,
        data=data,
        metrics=metrics,
        fingerprint=work,
        card=f"{parent.ref} after direct preference optimisation: of its own answers, those that pass are preferred to those that do not.",
    )
