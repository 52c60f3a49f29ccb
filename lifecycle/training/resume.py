"""The state of a run that was interrupted: everything that the next step depends on, written whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from lifecycle.config import choose
from lifecycle.hardware import DTYPES, agree_on_arithmetic, choose_arithmetic
from lifecycle.model.decoder import Decoder
from lifecycle.model.optimizer import MuonAdamW
from lifecycle.training import sharding
from lifecycle.training.batches import Position
from lifecycle.training.processes import processes

FORMAT = 1


@dataclass
class Progress:
    """How far a run has come. Seconds are of work, summed over all interruptions."""

    step: int = 0
    tokens: int = 0
    position: Position = field(default_factory=Position)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    flops: float = 0.0
    loss: float = float("nan")

    def advance(
        self, position: Position, tokens: int, loss: float, flops: float, seconds: float, cpu_seconds: float
    ) -> None:
        """One more step is done."""
        self.step += 1
        self.tokens += tokens
        self.position = position
        self.loss = loss
        self.flops += flops
        self.seconds += seconds
        self.cpu_seconds += cpu_seconds

    def cost(self) -> dict[str, float | int]:
        """For a manifest, over all interruptions."""
        return {
            "tokens": self.tokens,
            "wall_seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "flops": self.flops,
        }


def keep_arithmetic(workspace: Path) -> None:
    """Go on in the numbers that this run began in, in all of its processes: which are faster now, or elsewhere, must not change what is learnt."""
    together, file = processes(), workspace / "arithmetic"
    kept = file.read_text() if file.exists() else ""  # empty where whoever wrote it came to no end
    name = together.tell(kept or str(choose_arithmetic("auto", torch.device("cpu"))).removeprefix("torch."))
    if together.leads and not kept:
        workspace.mkdir(parents=True, exist_ok=True)
        _replace(file, lambda written: written.write(name.encode()))
    agree_on_arithmetic(choose("arithmetic", name, DTYPES))


def _replace(file: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Have a file written anew: a crash leaves the old one, or none."""
    partial = file.with_suffix(".partial")
    with open(partial, "wb") as written:
        write(written)
        written.flush()
        os.fsync(written.fileno())
    os.replace(partial, file)


class Checkpoints:
    """The one checkpoint and the log of a workspace, and what "auto" multiplies in there. Of several processes the leader writes them, and all read them."""

    def __init__(self, workspace: Path) -> None:
        keep_arithmetic(workspace)
        self.state_file = workspace / "resume.pt"
        self.log_file = workspace / "training_log.jsonl"

    def save(self, model: Decoder, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Replace the checkpoint: fp32 weights, optimizer, position, random state. A crash leaves the old one."""
        state = {
            "format": FORMAT,
            "model": sharding.whole(model.state_dict()),
            "optimizer": sharding.whole(optimizer.state_dict()),
            "progress": asdict(progress),
            "random": torch.get_rng_state(),
        }
        if not processes().leads:
            return
        _replace(self.state_file, lambda written: torch.save(state, written))

    def restore(self, model: Decoder, optimizer: MuonAdamW) -> Progress:
        """Load the checkpoint into `model` and `optimizer`, or start from nothing; the log is cut to match."""
        if not self.state_file.exists():
            if processes().leads:
                self.log_file.unlink(missing_ok=True)
            return Progress()
        device = next(model.parameters()).device
        where = "cpu" if sharding.sharded(model) else device  # a GPU has room for its part, not for the whole
        state = torch.load(self.state_file, map_location=where, weights_only=True)
        sharding.load(model, optimizer, state)
        torch.set_rng_state(state["random"].cpu())
        saved = state["progress"]
        progress = Progress(**{**saved, "position": Position(**saved["position"])})
        if processes().leads:
            self._cut_log(progress.step)
        return progress

    def log(self, record: dict) -> None:
        """Append one line of JSON."""
        if processes().leads:
            with open(self.log_file, "a") as file:
                file.write(json.dumps(record) + "\n")

    def _cut_log(self, step: int) -> None:
        lines = self.log_file.read_text().splitlines(keepends=True) if self.log_file.exists() else []
        # A crash may have cut the last line short; it is later than the checkpoint in any case.
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
        self.log_file.write_text("".join(kept))


class Interruption:
    """True once someone pressed Ctrl-C."""

    requested = False

    def __bool__(self) -> bool:
        return self.requested


@contextmanager
def between_steps() -> Iterator[Interruption]:
    """Hold Ctrl-C, and the SIGTERM of who runs the machine, back until the loop asks: never in the middle of an update.

    A second one raises KeyboardInterrupt at once. Outside the main thread signals do not arrive: nothing changes.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return

    def note(signum: int, frame: object) -> None:
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True

    before = {which: signal.signal(which, note) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
