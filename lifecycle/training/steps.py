"""A loop that asks for a step's loss and follows its gradient, with a checkpoint now and then that an interrupted run goes on from.

For whatever has parameters; `lifecycle.training.loop` is for language models that read documents alone.
"""

from __future__ import annotations

import builtins
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_arithmetic, choose_device, keep_memory
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.training.batches import Position
from lifecycle.training.resume import Checkpoints, Progress, between_steps

LAST_STEPS = 20
"""Steps whose mean is what is reported of the end."""


@dataclass(frozen=True)
class Pace:
    """How fast to learn."""

    lr: float
    """Peak learning rate of AdamW."""
    matrix_lr: float
    """Peak learning rate of Muon."""
    warmup: float
    """Part of the steps during which the rates rise from zero; then they fall to zero."""
    dtype: str
    """"fp32", "bf16" (autocast), or "auto"."""
    save_every: int
    """Steps between two checkpoints."""
    decoder: float = 1.0
    """How many times these rates are those of the part that is called `decoder`."""
    prefix: str = ""
    """What the names of both rates begin with in the settings."""


@dataclass(frozen=True)
class Step:
    """What one step found."""

    loss: Tensor
    """A scalar to be followed down, in nats."""
    accuracy: float
    """Share of what was to be found that the model held to be the likeliest."""
    tokens: int


def train(
    name: str, model: nn.Module, steps: int, batch: int, step_of: Callable[[int], Step], pace: Pace, workspace: Path, unit: str = "pic"
) -> tuple[Progress, list[dict[str, Any]]]:
    """Train what of `model` has a gradient, in place, for `steps` steps of `batch` pictures (or what `unit` says); how much
    work it was, and the log.

    `step_of` computes step n, counted from 0, which must follow from n and the weights alone. Goes on from the checkpoint in
    `workspace`. Ctrl-C saves one and raises KeyboardInterrupt; LifecycleError when the loss is not finite.
    """
    keep_memory()
    workspace.mkdir(parents=True, exist_ok=True)
    checkpoints = Checkpoints(workspace)
    device = choose_device("auto")
    dtype = choose_arithmetic(pace.dtype, device)
    model.to(device)
    optimizer = MuonAdamW(
        model, lr=pace.lr, matrix_lr=pace.matrix_lr, pace=lambda name: pace.decoder if name.startswith("decoder.") else 1.0
    )
    progress = checkpoints.restore(model, optimizer)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    watched = sys.stderr.isatty() or hasattr(builtins, "__IPYTHON__")
    bar = tqdm(total=steps * batch, initial=progress.step * batch, desc=name, unit=unit, mininterval=0.5, disable=not watched)
    with between_steps() as interrupted, bar:
        while progress.step < steps:
            started, cpu_started = time.perf_counter(), time.process_time()
            scale = _scale((progress.step + 0.5) / steps, pace.warmup)
            for groups, peak in ((optimizer.muon.param_groups, pace.matrix_lr), (optimizer.adamw.param_groups, pace.lr)):
                for group in groups:
                    group["lr"] = peak * scale * group["pace"]
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype is torch.bfloat16):
                step = step_of(progress.step)
            step.loss.backward()
            length = torch.nn.utils.clip_grad_norm_(weights, 1.0)
            loss = step.loss.item()
            if not math.isfinite(loss) or not math.isfinite(length):
                raise LifecycleError(
                    f"the loss is {loss} at step {progress.step + 1} of {name}; nothing was published: try a lower rate, for example "
                    f"--set {pace.prefix}lr={pace.lr / 3:.1g} --set {pace.prefix}matrix_lr={pace.matrix_lr / 3:.1g}"
                )
            optimizer.step()
            optimizer.zero_grad()
            seconds, cpu = time.perf_counter() - started, time.process_time() - cpu_started
            progress.advance(Position(0, progress.step + 1), step.tokens, loss, 0.0, seconds, cpu)
            checkpoints.log({"phase": name, "step": progress.step, "loss": loss, "accuracy": step.accuracy, "grad_norm": float(length)})
            bar.update(batch)
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if interrupted:
                checkpoints.save(model, optimizer, progress)
                tqdm.write(f"stopped after step {progress.step} of {name}; run the same again to go on")
                raise KeyboardInterrupt
            if progress.step % pace.save_every == 0 or progress.step == steps:
                checkpoints.save(model, optimizer, progress)
    return progress, [json.loads(line) for line in checkpoints.log_file.read_text().splitlines()]


def _scale(spent: float, warmup: float) -> float:
    """Linear warm-up, then straight down to nothing."""
    return min(1.0, spent / warmup) if spent < warmup else (1 - spent) / (1 - warmup)


def end(history: list[dict[str, Any]]) -> dict[str, float]:
    """What a run has come to: the means over its last steps, and how many there were."""
    last = history[-LAST_STEPS:]
    return {name: sum(entry[name] for entry in last) / len(last) for name in ("accuracy", "loss")} | {"steps": len(history)}
