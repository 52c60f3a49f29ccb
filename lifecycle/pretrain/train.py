"""The training loop, from random weights to a model that continues text.

One step: take a batch of whole documents, predict each next token, follow the gradient once. Around it: a learning
rate that depends on how much of the budget is spent, a look at held-out text now and then, and a checkpoint that an
interrupted run goes on from, bit for bit.
"""

from __future__ import annotations

import builtins
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device, choose_dtype, peak_flops
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.pretrain.config import PretrainConfig
from lifecycle.pretrain.data import Batch, Documents, Position, batches
from lifecycle.pretrain.resume import Checkpoints, Progress, between_steps
from lifecycle.pretrain.schedule import rate_scale
from lifecycle.pretrain.validation import Validation

FIRST_LOSS_TOLERANCE = 0.15
"""An untrained model's loss is within this part of ln(vocab_size), or something is wired wrongly."""


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step, as it stands in the log."""

    step: int
    """Counted from 1."""
    tokens: int
    """Tokens trained on so far."""
    loss: float
    """Mean over the batch before the update, in nats per token."""
    lr: float
    grad_norm: float
    """Length of the gradient before clipping."""
    tokens_per_second: float
    mfu: float
    """Part of the machine's measured peak that went into the model's own arithmetic."""


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
    device = choose_device(config.device)
    dtype = choose_dtype(config.dtype, device)
    peak = peak_flops(device, dtype)
    model = Decoder(config.model, config.seed).to(device)
    optimizer = make_optimizer(model, config)
    checkpoints = Checkpoints(workspace)
    progress = checkpoints.restore(model, optimizer)
    if config.compile:
        for block in model.model.layers:
            block.compile(
                dynamic=True
            )  # in place: names and weights stay; the loss picks rows, which does not compile well
    stream = batches(documents, config, progress.position)
    saved_at = time.perf_counter()

    with between_steps() as interrupted, progress_bar(config, progress) as bar:
        while progress.tokens < config.tokens:
            started, cpu_started = time.perf_counter(), time.process_time()
            pieces, position = take(stream, config.grad_accumulation)
            lr = set_rates(optimizer, config, progress.tokens / config.tokens)
            loss, grad_norm = update(model, optimizer, pieces, config, device, dtype)
            check(loss, grad_norm, progress, config, checkpoints)

            seconds = time.perf_counter() - started
            tokens, flops = sum(piece.count for piece in pieces), work(pieces, config)
            progress.advance(position, tokens, loss, flops, seconds, time.process_time() - cpu_started)
            record = StepRecord(
                progress.step, progress.tokens, loss, lr, grad_norm, tokens / seconds, flops / seconds / peak
            )
            checkpoints.log(asdict(record))
            bar.update(tokens)
            bar.set_postfix(loss=f"{loss:.3f}", mfu=f"{record.mfu:.0%}", refresh=False)

            look_at_held_out_text(model, validation, tokenizer, config, progress, checkpoints, dtype)
            if on_step is not None:
                on_step(record)
            if interrupted:
                checkpoints.save(model, optimizer, progress)
                tqdm.write(
                    f"stopped after step {progress.step}; run the same again to go on from {checkpoints.state_file}"
                )
                raise KeyboardInterrupt
            if time.perf_counter() - saved_at > config.checkpoint_every:
                checkpoints.save(model, optimizer, progress)
                saved_at = time.perf_counter()
    checkpoints.save(model, optimizer, progress)  # should publishing fail, nothing is lost
    return model, progress, {"train_loss": progress.loss, **validation.measure(model, dtype)}


def make_optimizer(model: Decoder, config: PretrainConfig) -> MuonAdamW:
    """Muon for the matrices inside the blocks, AdamW for the rest."""
    return MuonAdamW(
        model,
        lr=config.lr,
        matrix_lr=config.matrix_lr,
        weight_decay=config.weight_decay,
        betas=(config.beta1, config.beta2),
    )


def set_rates(optimizer: MuonAdamW, config: PretrainConfig, spent: float) -> float:
    """Scale both peak rates to where the run stands, `spent` of 1; returns AdamW's."""
    scale = rate_scale(config, spent)
    for group in optimizer.muon.param_groups:
        group["lr"] = config.matrix_lr * scale
    for group in optimizer.adamw.param_groups:
        group["lr"] = config.lr * scale
    return config.lr * scale


def take(stream: Iterator[tuple[Batch, Position]], count: int) -> tuple[list[Batch], Position]:
    """The next `count` batches and the position after them."""
    taken = [next(stream) for _ in range(count)]
    return [batch for batch, _ in taken], taken[-1][1]


def work(pieces: list[Batch], config: PretrainConfig) -> float:
    """Floating-point operations that the model itself needs for a step, without padding."""
    return sum(piece.count * config.model.flops_per_token(piece.tokens.shape[1]) for piece in pieces)


def update(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    pieces: list[Batch],
    config: PretrainConfig,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[float, float]:
    """One optimizer step over the tokens of all pieces; the loss before it and the gradient's length.

    Nothing is updated when either is not finite.
    """
    total = sum(piece.count for piece in pieces)
    loss = torch.zeros((), device=device)
    for piece in pieces:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            mean = model(piece.tokens.to(device), piece.targets.to(device))
        # Weighted by its tokens, so that cutting a batch into pieces changes nothing.
        share = mean * (piece.count / total)
        share.backward()
        loss += share.detach()
    grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
    if torch.isfinite(loss) and torch.isfinite(grad_norm):
        optimizer.step()
    optimizer.zero_grad()
    return loss.item(), grad_norm.item()


def check(loss: float, grad_norm: float, progress: Progress, config: PretrainConfig, checkpoints: Checkpoints) -> None:
    """Stop a run that has no future, before its weights reach a checkpoint."""
    if not (math.isfinite(loss) and math.isfinite(grad_norm)):
        last = checkpoints.state_file if checkpoints.state_file.exists() else "none yet"
        raise LifecycleError(
            f"the loss is {loss} and the gradient {grad_norm} at step {progress.step + 1}; nothing was published, "
            f"last good checkpoint: {last}. Try a lower rate, for example --set lr={config.lr / 3:.1g}"
        )
    expected = math.log(config.model.vocab_size)
    if progress.step == 0 and abs(loss - expected) > FIRST_LOSS_TOLERANCE * expected:
        raise LifecycleError(
            f"the first loss is {loss:.2f}, but an untrained model of {config.model.vocab_size} tokens starts near "
            f"ln({config.model.vocab_size}) = {expected:.2f}: the initial weights or the targets are wrong"
        )


def look_at_held_out_text(
    model: Decoder,
    validation: Validation,
    tokenizer: PreTrainedTokenizerFast,
    config: PretrainConfig,
    progress: Progress,
    checkpoints: Checkpoints,
    dtype: torch.dtype,
) -> None:
    """Every so many steps: log and print the validation loss, and a text that the model makes up."""
    if progress.step % config.eval_every == 0:
        losses = validation.measure(model, dtype)
        checkpoints.log({"step": progress.step, **losses})
        loss, bits = losses["validation_loss"], losses["bits_per_byte"]
        tqdm.write(f"step {progress.step}: validation loss {loss:.3f}, {bits:.3f} bits per byte")
    if config.sample_every and progress.step % config.sample_every == 0:
        text = validation.sample(model, tokenizer, progress.step)
        checkpoints.log({"step": progress.step, "sample": text})
        tqdm.write(f"step {progress.step}: {text}")


def progress_bar(config: PretrainConfig, progress: Progress) -> tqdm:
    """Tokens done, rate and time left; silent where nobody looks (a log file), visible in a notebook."""
    watched = sys.stderr.isatty() or hasattr(builtins, "__IPYTHON__")
    return tqdm(
        total=config.tokens,
        initial=progress.tokens,
        desc="pretrain",
        unit="tok",
        unit_scale=True,
        mininterval=0.5,
        disable=not watched,
    )
