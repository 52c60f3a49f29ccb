"""Pretraining: from random weights and plain text to a model that continues text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lifecycle.pretrain.config import PRESETS, PretrainConfig, configure

if TYPE_CHECKING:
    from datasets import Dataset

    from lifecycle.registry import DataRef, ModelRegistry, ModelVersion
    from lifecycle.training.loop import StepRecord

__all__ = ["PRESETS", "PretrainConfig", "configure", "run"]


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
    """Train on `dataset` and publish "pretrain/N"; a run that was published before is returned at once.

    dataset, validation: documents in a column "text"; a column "given", where there is one, has ranges of their characters,
    [start, end] each, that are read and not predicted. data: what they are, for the lineage. tokenizer: a version of stage
    "tokenizer". on_step is called after every optimizer step.
    Ctrl-C saves a checkpoint and raises KeyboardInterrupt; the same call goes on from there, bit for bit.
    Raises LifecycleError when the data, the tokenizer or the numbers do not fit; then nothing is published.
    """
    from lifecycle.pretrain.stage import run

    return run(
        config,
        registry,
        dataset=dataset,
        validation=validation,
        data=data,
        tokenizer=tokenizer,
        preset=preset,
        on_step=on_step,
    )
