"""The training loop of our own decoder, for pretraining and supervised fine-tuning alike.

One step: take a batch of whole documents, predict each next token that counts, follow the gradient once. Around it: a
learning rate that depends on how much of the budget is spent, and a checkpoint that an interrupted run goes on from,
bit for bit.
"""

from __future__ import annotations

import builtins
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch
from tqdm import tqdm

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_arithmetic, choose_device, is_out_of_memory, keep_memory, peak_flops
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.training.batches import Batch, Batching, Documents, Position, batches
from lifecycle.training.processes import ALONE, Alone, processes
from lifecycle.training.resume import Checkpoints, Progress, between_steps
from lifecycle.training.sharding import whole


@dataclass(frozen=True)
class Schedule:
    """How much to train, how fast, and on what."""

    name: str
    """What the progress bar calls it."""
    tokens: int
    """Budget. More than the data has means more epochs."""
    batching: Batching
    pieces: int
    """Batches that one optimizer step takes its gradient from."""
    lr: float
    """Peak learning rate of AdamW."""
    matrix_lr: float
    """Peak learning rate of Muon."""
    scale: Callable[[float], float]
    """From the part of the budget that is spent, 0 to 1, to the part of the peak rates that the next step gets."""
    grad_clip: float
    """Longest gradient; longer ones are scaled down to it."""
    save_now: Callable[[int, float], bool]
    """Whether to write a checkpoint, from the step just done and the seconds since the last checkpoint."""
    dtype: str
    """"fp32", "bf16" (autocast; weights stay fp32), or "auto"."""
    device: str = "auto"


@dataclass(frozen=True)
class StepRecord:
    """One optimizer step, as it stands in the log."""

    step: int
    """Counted from 1."""
    tokens: int
    """Tokens trained on so far."""
    loss: float
    """Mean over the targets of the batch before the update, in nats."""
    mean_token_accuracy: float
    """Share of these targets than which the model found no other token likelier."""
    lr: float
    grad_norm: float
    """Length of the gradient before clipping."""
    tokens_per_second: float
    mfu: float
    """Part of the machine's measured peak that went into the model's own arithmetic."""


def train(
    model: Decoder,
    optimizer: MuonAdamW,
    documents: Documents,
    schedule: Schedule,
    checkpoints: Checkpoints,
    after_step: Callable[[StepRecord], None],
) -> Progress:
    """Train `model` in place until the budget is spent; how much work it was, interruptions included.

    Goes on from the checkpoint when there is one. `after_step` may raise, and does so before that step is saved. Ctrl-C, in
    any of several processes, saves a checkpoint and raises KeyboardInterrupt. Raises LifecycleError when the loss or the
    gradient is not finite, or a step does not fit into memory.
    """
    keep_memory()
    device = choose_device(schedule.device)
    dtype = choose_arithmetic(schedule.dtype, device)
    together = processes()
    peak = peak_flops(device, dtype) * together.count
    progress = checkpoints.restore(model, optimizer)
    stream = batches(documents, schedule.batching, progress.position)
    saved_at = time.perf_counter()

    with between_steps() as interrupted, _progress_bar(schedule, progress) as bar:
        while progress.tokens < schedule.tokens:
            started, cpu_started = time.perf_counter(), time.process_time()
            pieces, position = take(stream, schedule.pieces)
            lr = set_rates(optimizer, schedule, progress.tokens / schedule.tokens)
            try:
                result = update(model, optimizer, pieces, schedule.grad_clip, device, dtype, together)
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise _too_large(pieces, progress, checkpoints) from error
                raise
            _check(result, progress, schedule, checkpoints)

            seconds = time.perf_counter() - started
            tokens, flops = sum(len(piece.tokens) for piece in pieces), work(model, pieces)
            progress.advance(position, tokens, result.loss, flops, seconds, time.process_time() - cpu_started)
            record = StepRecord(
                progress.step,
                progress.tokens,
                result.loss,
                result.accuracy,
                lr,
                result.grad_norm,
                tokens / seconds,
                flops / seconds / peak,
            )
            checkpoints.log(asdict(record))
            bar.update(tokens)
            bar.set_postfix(loss=f"{result.loss:.3f}", mfu=f"{record.mfu:.0%}", refresh=False)
            after_step(record)
            stop, save = together.agree(bool(interrupted), schedule.save_now(progress.step, time.perf_counter() - saved_at))
            if stop:
                checkpoints.save(model, optimizer, progress)
                where = checkpoints.state_file
                tqdm.write(f"stopped after step {progress.step}; run the same again to go on from {where}")
                raise KeyboardInterrupt
            if save:
                checkpoints.save(model, optimizer, progress)
                saved_at = time.perf_counter()
    if not all(whole(weight.isfinite().all()) for weight in model.parameters()):
        raise LifecycleError("the weights are not finite after the last step; nothing was published: try a lower --set lr=")
    checkpoints.save(model, optimizer, progress)  # should publishing fail, nothing is lost
    return progress


def set_rates(optimizer: MuonAdamW, schedule: Schedule, spent: float) -> float:
    """Scale both peak rates to where the run stands, `spent` of 1; returns AdamW's."""
    scale = schedule.scale(spent)
    for group in optimizer.muon.param_groups:
        group["lr"] = schedule.matrix_lr * scale
    for group in optimizer.adamw.param_groups:
        group["lr"] = schedule.lr * scale
    return schedule.lr * scale


def take(stream: Iterator[tuple[Batch, Position]], count: int) -> tuple[list[Batch], Position]:
    """The next `count` batches and the position after them."""
    taken = [next(stream) for _ in range(count)]
    return [batch for batch, _ in taken], taken[-1][1]


def work(model: Decoder, pieces: list[Batch]) -> float:
    """Floating-point operations that the model itself needs for a step."""
    lengths = torch.cat([piece.lengths for piece in pieces])
    # Attention's share grows with a document's length: on average over tokens, not documents.
    return int(lengths.sum()) * model.config.flops_per_token(int((lengths**2).sum()) / int(lengths.sum()))


@dataclass(frozen=True)
class Result:
    """What one step found before it changed the weights."""

    loss: float
    accuracy: float
    grad_norm: float

    @property
    def finite(self) -> bool:
        """Whether the weights were updated."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm)


def update(
    model: Decoder,
    optimizer: torch.optim.Optimizer,
    pieces: list[Batch],
    grad_clip: float,
    device: torch.device,
    dtype: torch.dtype,
    together: Alone = ALONE,
) -> Result:
    """One optimizer step over the targets of all pieces, of which each process takes its share.

    Nothing is updated when loss or gradient are not finite.
    """
    total = max(1, sum(piece.count for piece in pieces))
    loss, right = torch.zeros((), device=device), torch.zeros((), device=device)
    for piece in together.share(pieces):
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
            nats, hits = model.score(piece.tokens.to(device), piece.targets.to(device), piece.lengths)
        # A sum over the targets divided by all of the step's: cutting a batch into pieces changes nothing.
        share = nats / total
        share.backward()
        loss += share.detach()
        right += hits
    summed = together.add_up(model.parameters(), torch.stack((loss, right / total)))
    grad_norm = whole(torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip))
    found = torch.cat((summed, grad_norm[None])).tolist()  # one wait for the device
    result = Result(*found)
    if result.finite:
        optimizer.step()
    optimizer.zero_grad()
    return result


def _check(result: Result, progress: Progress, schedule: Schedule, checkpoints: Checkpoints) -> None:
    """Stop a run that has no future, before its weights reach a checkpoint."""
    if result.finite:
        return
    raise LifecycleError(
        f"the loss is {result.loss} and the gradient {result.grad_norm} at step {progress.step + 1}; nothing was published, "
        f"last good checkpoint: {_last_good(checkpoints)}. Try a lower rate, for example --set lr={schedule.lr / 3:.1g}"
    )


def _too_large(pieces: list[Batch], progress: Progress, checkpoints: Checkpoints) -> LifecycleError:
    tokens = max(len(piece.tokens) for piece in pieces)
    return LifecycleError(
        f"{tokens:,} tokens at once do not fit into memory at step {progress.step + 1}; nothing was published, last good "
        f"checkpoint: {_last_good(checkpoints)}. Cut a step into more pieces (pretraining: --set grad_accumulation="
        f"{2 * len(pieces)}) or make it smaller (SFT: a lower --set batch_rows=)"
    )


def _last_good(checkpoints: Checkpoints) -> str:
    return str(checkpoints.state_file) if checkpoints.state_file.exists() else "none yet"


def _progress_bar(schedule: Schedule, progress: Progress) -> tqdm:
    """Tokens done, rate and time left; silent where nobody looks (a log file), visible in a notebook."""
    watched = sys.stderr.isatty() or hasattr(builtins, "__IPYTHON__")
    return tqdm(
        total=schedule.tokens,
        initial=progress.tokens,
        desc=schedule.name,
        unit="tok",
        unit_scale=True,
        mininterval=0.5,
        disable=not watched or not processes().leads,
    )
