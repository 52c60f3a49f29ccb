"""Who may join. Nobody overtakes the head of the queue, so that a big request is not starved by small ones."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterator, Sequence

from serving.domain.composers import Joined, split
from serving.domain.config import SchedulerConfig
from serving.domain.learning import OutputLengths
from serving.domain.plan import Limits, SchedulerView, SequenceView


class PeakMemory:
    """How far the head of the queue fits, judged by the most memory that all would hold at any later time together.

    LightLLM's rule: sort by remaining output r, longest first. When the i-th of them ends, exactly the first i are left,
    and each has grown by r_i; so peak = max over i of (r_i * i + tokens that those i hold now). The prediction of r comes
    from `OutputLengths`. Blocks that are shared count once, as if they stayed for ever.
    """

    def __init__(self, config: SchedulerConfig, lengths: OutputLengths) -> None:
        self._watermark = config.watermark
        self._lengths = lengths

    def affordable(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Iterator[SequenceView]:
        """Sequences from the head of `queue`, one by one, while places and memory reach.

        With nothing running the first is let in whatever its size: the engine has refused what no empty pool can hold.
        """
        if not queue or len(view.running) >= limits.max_num_seqs:
            return
        capacity = limits.total_blocks - math.ceil(self._watermark * limits.total_blocks)
        in_use = limits.total_blocks - view.available_blocks
        capacity -= in_use - sum(s.blocks - s.shared for s in view.running)  # shared blocks
        members: list[tuple[int, int]] = []
        for sequence in view.running:
            insort(members, self._member(sequence, limits))
        for sequence in queue:
            insort(members, self._member(sequence, limits))
            crowded = len(members) > limits.max_num_seqs
            if crowded or (len(members) > 1 and peak_blocks(members, limits.block_size) > capacity):
                return
            yield sequence

    def _member(self, sequence: SequenceView, limits: Limits) -> tuple[int, int]:
        held = max(sequence.target - sequence.shared * limits.block_size, 0)
        return -self._lengths.remaining(sequence), held


def peak_blocks(members: Sequence[tuple[int, int]], block_size: int) -> int:
    """The most blocks that sequences ever hold together; `members` are (-remaining output, tokens held now), sorted.

    An upper bound: each sequence may waste all but one slot of its last block.
    """
    peak = held = 0
    for count, (negative_rest, tokens) in enumerate(members, 1):
        held += tokens + block_size - 1
        peak = max(peak, held - count * negative_rest)
    return peak // block_size


class WhenEmpty:
    """Static batching: nobody joins before the whole batch is done."""

    def __init__(self, memory: PeakMemory) -> None:
        self._memory = memory

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        return [] if view.running else list(self._memory.affordable(view, queue, limits))


class OneAtATime:
    """One prompt joins, and only when no other is still being prefilled."""

    def __init__(self, memory: PeakMemory) -> None:
        self._memory = memory

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        if any(sequence.prefilling for sequence in view.running):
            return []
        return list(self._memory.affordable(view, queue[:1], limits))


class FitTheBudget:
    """All that fit into one step's token budget; the first may be larger, and is then prefilled in pieces."""

    def __init__(self, memory: PeakMemory) -> None:
        self._memory = memory

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        admitted: list[SequenceView] = []
        budget = limits.max_num_batched_tokens - sum(s.remaining for s in view.running if s.prefilling)
        for sequence in self._memory.affordable(view, queue, limits):
            whole_budget_is_left = budget == limits.max_num_batched_tokens
            if sequence.remaining > budget and not whole_budget_is_left:
                break
            admitted.append(sequence)
            budget -= sequence.remaining
        return admitted


class WhileTokensLast:
    """Nobody joins who would get no token in this step: who only waits should hold no place, and may yet be overtaken."""

    def __init__(self, memory: PeakMemory, composer: Joined) -> None:
        self._memory = memory
        self._composer = composer

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        admitted: list[SequenceView] = []
        decodes, prompts = split(view.running)
        room = self._composer.room(decodes, limits) - sum(s.remaining for s in prompts)
        for sequence in self._memory.affordable(view, queue, limits):
            if room < 1:
                break
            admitted.append(sequence)
            room -= sequence.remaining
        return admitted
