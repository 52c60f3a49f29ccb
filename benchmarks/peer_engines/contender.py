"""What every engine of the comparison can do, and the one workload that all of them get."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Phase = Literal["decode", "prefill", "http"]

PROMPT, OUTPUT = 128, 64
"""Tokens of every prompt and of every answer."""
BATCHES = (1, 8, 16, 32)
"""Sequences at once, or clients at once."""
PREFILL_BATCH = 8
ROUNDS = 2
"""Requests that each HTTP client sends, one after the other."""
CONTEXT = 256
"""Room per sequence, for engines that want to know."""
KV_GIB = 1
"""Memory for keys and values, for engines that want to know: 32 sequences of the larger shape take a tenth of it."""


class Unavailable(Exception):
    """An engine that cannot be prepared or does not run here; the message says why, and it is left out."""


@dataclass(frozen=True, slots=True)
class Question:
    """One figure that is wanted. `number` is different for every question, so that no two of them have the same prompts."""

    phase: Phase
    batch: int
    number: int

    def fields(self) -> dict[str, Any]:
        """For a worker, as JSON."""
        return {
            "phase": self.phase,
            "batch": self.batch,
            "number": self.number,
            "prompt": PROMPT,
            "output": OUTPUT if self.phase == "decode" else 1,
        }


class Session(Protocol):
    """An engine with one model loaded, idle until it is asked."""

    name: str
    """As the table shows it."""

    def measure(self, question: Question) -> float:
        """Tokens per second. Raises Unavailable."""

    def close(self) -> None:
        """Ends every process that the session started."""


class Contender(Protocol):
    """One engine. `id` names it on the command line and its directory under build/peers."""

    id: str
    precision: str
    phases: tuple[Phase, ...]

    def prepare(self) -> None:
        """Install it, unless that was done. Raises Unavailable."""

    def versions(self) -> dict[str, str]:
        """What was installed."""

    def convert(self, checkpoint: Path) -> Path:
        """The checkpoint in a format that it reads; kept if it is there already. Raises Unavailable."""

    def start(self, model: Path, logs: Path) -> Session:
        """Load what `convert` gave. Raises Unavailable."""


def cores() -> list[int]:
    """The processors that this process may use; every engine gets as many threads."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
