"""KTO (Ethayarajh et al., 2024): learn from thumbs that have no partner, each answer on its own against the starting model."""

from __future__ import annotations

from lifecycle.errors import LifecycleError
from lifecycle.feedback.config import FeedbackConfig
from lifecycle.registry import ModelRegistry, ModelVersion, fingerprint
from lifecycle.rlhf.pairs import read

NAME = "rlhf-kto"
THUMBS = "rlhf-thumbs"


def run(config: FeedbackConfig, registry: ModelRegistry, *, parent: ModelVersion, thumbs: ModelVersion, preset: str | None = None) -> ModelVersion:
    """Train on the thumbs of a "rlhf-thumbs" version and publish "rlhf-kto/N".

    The rarer kind of thumb weighs so much more that both kinds weigh the same in all.
    """
    from trl import KTOConfig, KTOTrainer

    from lifecycle import trainers, versions
    from lifecycle.rlhf.unpadded import leave_padding_out

    if (batch := trainers.share(config.batch, "batch")) < 2:
        raise LifecycleError(f"KTO compares the answers of a batch, so each process needs two: --set batch={2 * config.batch // batch}")
    work = fingerprint(NAME, config, [parent, thumbs])
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, thumbs])
    meter = trainers.meter(workspace)
    rows, data = read(thumbs)
    liked = sum(rows["label"])
    disliked = len(rows) - liked
    model, tokenizer = versions.load(parent)
    references = versions.references(parent)
    trainer = KTOTrainer(
        model,
        ref_model=references[0] if references else None,
        args=KTOConfig(
            **trainers.arguments(workspace, config.seed, config.dtype, config.save_every),
            max_steps=config.steps,
            per_device_train_batch_size=batch,
            learning_rate=config.lr,
            warmup_steps=0.1,
            beta=config.beta,
            desirable_weight=max(1.0, disliked / liked),
            undesirable_weight=max(1.0, liked / disliked),
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    leave_padding_out(model, *references, dtype=config.dtype)
    history = trainers.train(trainer, meter)
    return trainers.publish(
        registry,
        NAME,
        (model, tokenizer, history),
        meter,
        parents=[parent, thumbs],
        config=config,
        preset=preset,
        data=data,
        metrics={"loss": trainers.last(history, "loss"), "up": liked, "down": disliked},
        fingerprint=work,
        card=f"{parent.ref} after KTO on thumbs up and down that people gave to single answers.",
    )
