"""Rollouts: answers that a policy samples while it is being trained, by an engine that takes its new weights as they come.

An engine is found through the entry points `lifecycle.rollouts`: whoever serves models offers the same engine here, and
transformers' `generate` is there where nobody does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Protocol

from lifecycle.errors import LifecycleError

GROUP = "lifecycle.rollouts"
CHOICES = ("auto", "engine", "generate")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One sampled answer, with the end of its turn if it got there; log-probabilities (nats) at the temperature of sampling."""

    tokens: list[int]
    logprobs: list[float]


class RolloutEngine(Protocol):
    """A loaded policy that samples. Nobody else uses it meanwhile."""

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with these parameters, by their names in a checkpoint; nothing computed with the old ones is used again.

        Raises LifecycleError for values that are not numbers.
        """

    def sample(
        self, prompts: Sequence[Sequence[int]], *, max_tokens: int, temperature: float, stop: Iterable[int], seed: int
    ) -> list[Rollout]:
        """One answer per prompt, in order. The same seed samples the same; a temperature of 0 is greedy.

        Raises LifecycleError when a prompt does not fit the model.
        """

    def close(self) -> None:
        """Give its memory and its threads back."""


def open_engine(choice: str, directory: Path, *, dtype: str, sequences: int) -> RolloutEngine:
    """The engine of a checkpoint directory for `sequences` answers at a time.

    choice: "engine" is the serving engine, "generate" transformers, "auto" the first where it is installed. dtype: "fp32",
    "bf16" or "auto". Raises LifecycleError when there is no such engine.
    """
    from lifecycle.rlhf.generate import GenerateRollouts

    offered = next(iter(entry_points(group=GROUP, name="engine")), None)
    if choice == "engine" and offered is None:
        raise LifecycleError("no serving engine is installed: pip install -e . in this repository, or --set rollouts=generate")
    make = GenerateRollouts if choice == "generate" or offered is None else offered.load()
    return make(directory, dtype=dtype, sequences=sequences)
