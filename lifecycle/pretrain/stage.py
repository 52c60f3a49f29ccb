"""Pretraining as a stage: data and tokenizer in, a registered version out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset

from lifecycle.costs import CostMeter
from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.tokenizer import load_tokenizer
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.pretrain.data import tokenize
from lifecycle.pretrain.train import train
from lifecycle.pretrain.validation import Validation
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.training.loop import StepRecord
from lifecycle.training.processes import processes

NAME = "pretrain"


def run(
    config: PretrainConfig,
    registry: ModelRegistry,
    *,
    dataset: Dataset,
    validation: Dataset,
    data: DataRef,
    tokenizer: ModelVersion,
    preset: str | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
) -> ModelVersion:
    """See `lifecycle.pretrain.run`."""
    work = fingerprint(NAME, config, [tokenizer], data)
    if (published := registry.find(NAME, work)) is not None:
        return published

    meter, together = CostMeter(), processes()
    words = load_tokenizer(tokenizer.path)
    if len(words) > config.model.vocab_size:
        raise LifecycleError(
            f"{tokenizer.ref} has {len(words)} tokens, the model only {config.model.vocab_size} rows: "
            f"use --set model.vocab_size={len(words)} or another tokenizer"
        )
    for name, documents in (("training", dataset), ("validation", validation)):
        if len(documents) == 0:
            raise LifecycleError(f"the {name} data is empty: give at least one document")
    workspace = registry.workspace(NAME, work, [tokenizer])
    tokenized, held_out = together.in_turn(
        lambda: (
            tokenize(dataset, words, config.model.context_length, workspace / "train"),
            Validation.prepare(validation, words, config, workspace / "validation"),
        )
    )
    model, progress, losses = train(config, tokenized, held_out, words, workspace, on_step)

    def write(directory: Path) -> None:
        save_checkpoint(model, config.model, words, directory, config.publish_dtype)
        shutil.copyfile(workspace / "training_log.jsonl", directory / "training_log.jsonl")

    def publish() -> ModelVersion:
        version = registry.publish(
            NAME,
            write,
            stage=NAME,
            parents=[tokenizer],
            config=config,
            preset=preset,
            data=data,
            metrics={
                "bits_per_byte": losses["bits_per_byte"],
                **losses,
                "tokens": progress.tokens,
                "steps": progress.step,
                "parameters": config.model.num_parameters,
            },
            seed=config.seed,
            fingerprint=work,
            seconds=progress.seconds,
            cost=meter.read(earlier=progress.cost()),
            card=_card(config, progress.tokens, losses, held_out.sample(model, words, seed=0)),
        )
        registry.discard_workspace(NAME, work)
        return version

    return together.in_turn(lambda: registry.find(NAME, work) or publish())


def _card(config: PretrainConfig, tokens: int, losses: dict[str, float], sample: str) -> str:
    quoted = sample.replace("\n", "\n> ")
    return (
        f"A base model: it continues text and does not know how to chat. {config.model.num_parameters:,} parameters, "
        f"trained on {tokens:,} tokens from random weights; "
        f"{losses['bits_per_byte']:.3f} bits per byte on held-out text.\n\n"
        f"A continuation (after the bar) of held-out text:\n\n> {quoted}\n"
    )
