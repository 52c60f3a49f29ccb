"""Rollouts: answers that a policy samples while it is being trained, by an engine that takes its new weights as they come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
