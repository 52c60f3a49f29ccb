"""Which engine samples rollouts.

One is found through the entry points `lifecycle.rollouts`: whoever serves models offers the same engine here, and
transformers' `generate` is there where nobody does.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.rlhf.generate import GenerateRollouts
from lifecycle.rlhf.rollouts import RolloutEngine

GROUP = "lifecycle.rollouts"


def open_engine(choice: str, directory: Path, *, dtype: str, sequences: int) -> RolloutEngine:
    """The engine of a checkpoint directory for `sequences` answers at a time.

    choice: "engine" is the serving engine, "generate" transformers, "auto" the first where it is installed. dtype: "fp32",
    "bf16" or "auto". Raises LifecycleError when there is no such engine.
    """
    offered = next(iter(entry_points(group=GROUP, name="engine")), None)
    if choice == "engine" and offered is None:
        raise LifecycleError("no serving engine is installed: pip install -e . in this repository, or --set rollouts=generate")
    make = GenerateRollouts if choice == "generate" or offered is None else offered.load()
    return make(directory, dtype=dtype, sequences=sequences)
