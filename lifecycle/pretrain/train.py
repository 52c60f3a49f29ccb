"""Pretraining: the training loop, from random weights to a model that continues text, with a look at held-out text."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_arithmetic, choose_device
from lifecycle.model.decoder import Decoder
from lifecycle.model.induction import wire_induction
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.pretrain.schedule import rate_scale
from lifecycle.pretrain.validation import Validation
from lifecycle.training import loop
from lifecycle.training.batches import Batching, Documents
from lifecycle.training.loop import Schedule, StepRecord
from lifecycle.training.processes import processes
from lifecycle.training.resume import Checkpoints, Progress
from lifecycle.training.sharding import gathered, shard

FIRST_LOSS_TOLERANCE = 0.15
"""An untrained model's loss is within this part of ln(vocab_size), or something is wired wrongly."""


def train(
    config: PretrainConfig,
    documents: Documents,
    validation: Validation,
    tokenizer: PreTrainedTokenizerFast,
    workspace: Path,
    on_step: Callable[[StepRecord], None] | None = None,
) -> tuple[Decoder, Progress, dict[str, float]]:
    """The trained model, how much work it was, and its last losses.

    Goes on from the checkpoint in `workspace` when there is one. Ctrl-C saves one and raises KeyboardInterrupt.
    Raises LifecycleError when the first loss is not that of an untrained model, or a later one is not finite.
    """
    checkpoints = Checkpoints(workspace)
    device = choose_device(config.device)
    dtype = choose_arithmetic(config.dtype, device)
    model = untrained(config).to(device)
    if config.sharded and processes().count > 1:
        shard(model)
    if config.compile:
        for block in model.model.layers:
            block.compile(
                dynamic=True
            )  # in place: names and weights stay; the loss picks rows, which does not compile well

    def after_step(record: StepRecord) -> None:
        check_first_loss(record, config)
        if record.step % config.eval_every == 0:
            losses = validation.measure(model, dtype)
            checkpoints.log({"step": record.step, **losses})
            loss, bits = losses["validation_loss"], losses["bits_per_byte"]
            tqdm.write(f"step {record.step}: validation loss {loss:.3f}, {bits:.3f} bits per byte")
        if config.sample_every and record.step % config.sample_every == 0:
            text = validation.sample(model, tokenizer, record.step)
            checkpoints.log({"step": record.step, "sample": text})
            tqdm.write(f"step {record.step}: {text}")
        if on_step is not None:
            on_step(record)

    progress = loop.train(model, make_optimizer(model, config), documents, schedule(config), checkpoints, after_step)
    losses = {"train_loss": progress.loss, **validation.measure(model, dtype)}
    return gathered(model), progress, losses


def untrained(config: PretrainConfig) -> Decoder:
    """The model before its first step."""
    model = Decoder(config.model, config.seed)
    if config.start == "induction":
        wire_induction(model, config.seed)
    return model


def make_optimizer(model: Decoder, config: PretrainConfig) -> MuonAdamW:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    return MuonAdamW(
        model,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
    )


def batching(config: PretrainConfig) -> Batching:
    """How documents become the pieces that a step's batch is cut into."""
    capacity = config.batch_tokens // config.grad_accumulation
    return Batching(config.seed, capacity, config.bucket_batches, in_order=config.curriculum)


def schedule(config: PretrainConfig) -> Schedule:
    """What the loop is told."""
    return Schedule(
        name="pretrain",
        tokens=config.tokens,
        batching=batching(config),
        pieces=config.grad_accumulation,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        scale=lambda spent: rate_scale(config, spent),
        grad_clip=config.grad_clip,
        save_now=lambda step, seconds: seconds > config.checkpoint_every,
        dtype=config.dtype,
        device=config.device,
    )


def check_first_loss(record: StepRecord, config: PretrainConfig) -> None:
    """Raises LifecycleError when the first loss is not that of a model that knows nothing."""
    expected = math.log(config.model.vocab_size)
    if record.step == 1 and abs(record.loss - expected) > FIRST_LOSS_TOLERANCE * expected:
        raise LifecycleError(
            f"the first loss is {record.loss:.2f}, but an untrained model of {config.model.vocab_size} tokens starts near "
            f"ln({config.model.vocab_size}) = {expected:.2f}: the initial weights or the targets are wrong"
        )
