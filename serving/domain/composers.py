"""Who computes how much in one step. The sequences come in the policy's order, and memory is granted in that order."""

from __future__ import annotations

from collections.abc import Sequence

from serving.domain.learning import StepTime
from serving.domain.plan import Limits, SequenceView

MIN_CHUNK = 16
"""Prompt tokens that every mixed step takes at least, however tight its time: prompts must get on."""


def split(sequences: Sequence[SequenceView]) -> tuple[list[SequenceView], list[SequenceView]]:
    """(decodes, prompts), each in the order given. A sequence that is being recomputed is a prompt again."""
    decodes: list[SequenceView] = []
    prompts: list[SequenceView] = []
    for sequence in sequences:
        (prompts if sequence.prefilling else decodes).append(sequence)
    return decodes, prompts


def share_out(prompts: Sequence[SequenceView], budget: int, limits: Limits) -> list[tuple[str, int]]:
    """As many tokens as each still needs, in order, until the budget is gone."""
    work = []
    chunk = limits.prefill_chunk or limits.max_num_batched_tokens
    for sequence in prompts:
        count = min(sequence.remaining, chunk, budget)
        if count < 1:
            break
        work.append((sequence.id, count))
        budget -= count
    return work


class PrefillFirst:
    """Steps of prompts only while there are prompts, else steps of decodes only."""

    def compose(
        self, decodes: Sequence[SequenceView], prompts: Sequence[SequenceView], limits: Limits
    ) -> tuple[tuple[str, int], ...]:
        return tuple(share_out(prompts or decodes, limits.max_num_batched_tokens, limits))


class Joined:
    """Every decode gets its token; prompts share what is left of the budget in the same step (Sarathi-Serve, 2024).

    `beside_decodes`: most prompt tokens in a step that also decodes, because everybody's next token waits for them; 0: no
    limit but the budget's.
    """

    def __init__(self, beside_decodes: int = 0) -> None:
        self._beside_decodes = beside_decodes

    def compose(
        self, decodes: Sequence[SequenceView], prompts: Sequence[SequenceView], limits: Limits
    ) -> tuple[tuple[str, int], ...]:
        ones = [(sequence.id, 1) for sequence in decodes]
        return (*ones, *share_out(prompts, self.room(decodes, limits), limits)) if prompts else tuple(ones)

    def room(self, decodes: Sequence[SequenceView], limits: Limits) -> int:
        """Prompt tokens that fit into a step beside `decodes`."""
        left = limits.max_num_batched_tokens - len(decodes)
        return min(left, self._beside_decodes) if decodes and self._beside_decodes else left


class Paced(Joined):
    """As many prompt tokens beside the decodes as the step-time model allows within `seconds`."""

    def __init__(self, time: StepTime, seconds: float) -> None:
        super().__init__()
        self._time = time
        self._seconds = seconds

    def room(self, decodes: Sequence[SequenceView], limits: Limits) -> int:
        left = super().room(decodes, limits)
        if not decodes:
            return left
        in_time = self._time.tokens_within(self._seconds, sum(s.target for s in decodes)) - len(decodes)
        return min(left, max(MIN_CHUNK, in_time))
