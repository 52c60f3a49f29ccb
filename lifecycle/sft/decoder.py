"""Fine-tuning of every weight of a Llama, written out: pretraining's loop over conversations, the assistant's words learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from lifecycle.hardware import choose_device
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.sft.config import SFTConfig
from lifecycle.sft.data import as_documents
from lifecycle.training import loop
from lifecycle.training.batches import Batching, Documents
from lifecycle.training.loop import Schedule, StepRecord
from lifecycle.training.processes import processes
from lifecycle.training.resume import Checkpoints, Progress

WINDOW = 8
"""Batches' worth of conversations that are sorted by length together."""


@dataclass(frozen=True)
class Training:
    """Everything that the loop is given."""

    model: Decoder
    optimizer: MuonAdamW
    documents: Documents
    schedule: Schedule

    def run(self, workspace: Path, on_step: Callable[[StepRecord], None] | None = None) -> tuple[Progress, list[dict[str, Any]]]:
        """Train the model in place; how much work it was, and the log.

        Goes on from the checkpoint in `workspace`. Ctrl-C saves one and raises KeyboardInterrupt; LifecycleError when
        the loss is not finite.
        """
        checkpoints = Checkpoints(workspace)
        after_step = on_step or (lambda record: None)
        progress = loop.train(self.model, self.optimizer, self.documents, self.schedule, checkpoints, after_step)
        processes().agree()  # the leader's log is complete
        return progress, [json.loads(line) for line in checkpoints.log_file.read_text().splitlines()]


def prepare(config: SFTConfig, model: Decoder, rows: Dataset) -> Training:
    """Conversations as `lifecycle.sft.data.tokenize` gives them, in batches of at most batch_rows x max_length tokens."""
    documents = as_documents(rows, min(config.max_length, model.config.context_length))
    model.to(choose_device("auto"))
    optimizer = MuonAdamW(model, lr=config.lr, matrix_lr=config.matrix_lr)
    return Training(model, optimizer, documents, schedule(config, int(documents.lengths.sum())))


def schedule(config: SFTConfig, tokens: int) -> Schedule:
    """What the loop is told, for conversations of `tokens` tokens in all."""
    capacity, budget = config.batch_rows * config.max_length, max(1, round(config.epochs * tokens))

    def scale(spent: float) -> float:
        """Linear warm-up, then straight down to nothing."""
        if spent < config.warmup:
            half_a_step = 0.5 * capacity / budget  # so that the first update is not wasted on a rate of 0
            return min(1.0, (spent + half_a_step) / config.warmup)
        return (1 - spent) / (1 - config.warmup)

    return Schedule(
        name="sft",
        tokens=budget,
        batching=Batching(config.seed, capacity, WINDOW),
        pieces=1,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        scale=scale,
        grad_clip=1.0,
        save_now=lambda step, seconds: step % config.save_every == 0,
        dtype=config.dtype,
    )
