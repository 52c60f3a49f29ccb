"""The parts that policies are composed of. Each has one method and sees only immutable snapshots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from serving.domain.plan import Limits, SchedulerView, SequenceView

Order = Callable[[Sequence[SequenceView], float], Sequence[SequenceView]]
"""(waiting sequences, now) to the order in which they should be served."""


def by_arrival(waiting: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
    """First come, first served; a preempted sequence keeps its place."""
    return sorted(waiting, key=lambda s: s.arrival)


class AdmissionRule(Protocol):
    """Who may join the running sequences now."""

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]: ...


class Composer(Protocol):
    """How the tokens of one step are shared out. Returns (id, tokens) in the order in which memory is granted."""

    def compose(self, sequences: Sequence[SequenceView], limits: Limits) -> tuple[tuple[str, int], ...]: ...


def affordable(view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Iterator[SequenceView]:
    """The head of the queue as far as places and memory reach. Nobody overtakes: a big request is never starved.

    Kept back: what running prompts still need, and one block per running sequence plus 1% of the pool, so that a sequence
    is not admitted only to be preempted a moment later. With nothing running the first is let in whatever its size: the
    engine has refused everything that does not fit an empty pool.
    """
    running = len(view.running)
    available = view.available_blocks - limits.total_blocks // 100
    available -= sum(max(1, limits.blocks_for(s.target + 1) - s.blocks) for s in view.running)
    for sequence in queue:
        need = 1 + limits.blocks_for(sequence.target + 1) - sequence.shared
        if running >= limits.max_num_seqs or (running and need > available):
            return
        yield sequence
        running += 1
        available -= need


class WhenEmpty:
    """Static batching: nobody joins before the whole batch is done."""

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        return [] if view.running else list(affordable(view, queue, limits))


class OneAtATime:
    """One prompt joins, and only when no other is still being prefilled."""

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        if any(sequence.prefilling for sequence in view.running):
            return []
        return list(affordable(view, queue[:1], limits))


class FitTheBudget:
    """All that fit into one step's token budget; the first may be larger, and is then prefilled in pieces."""

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]:
        admitted: list[SequenceView] = []
        budget = limits.max_num_batched_tokens - sum(s.remaining for s in view.running if s.prefilling)
        for sequence in affordable(view, queue, limits):
            whole_budget_is_left = budget == limits.max_num_batched_tokens
            if sequence.remaining > budget and not whole_budget_is_left:
                break
            admitted.append(sequence)
            budget -= sequence.remaining
        return admitted


def share_out(sequences: Sequence[SequenceView], budget: int, limits: Limits) -> list[tuple[str, int]]:
    """As many tokens as each still needs, in order, until the budget is gone."""
    work = []
    chunk = limits.prefill_chunk or limits.max_num_batched_tokens
    for sequence in sequences:
        count = min(sequence.remaining, chunk, budget)
        if count < 1:
            break
        work.append((sequence.id, count))
        budget -= count
    return work


class PrefillFirst:
    """Steps of prompts only while there are prompts, else steps of decodes only."""

    def compose(self, sequences: Sequence[SequenceView], limits: Limits) -> tuple[tuple[str, int], ...]:
        prompts = [sequence for sequence in sequences if sequence.prefilling]
        return tuple(share_out(prompts or sequences, limits.max_num_batched_tokens, limits))


class Joined:
    """Every decode gets its token; prompts share what is left of the budget in the same step."""

    def compose(self, sequences: Sequence[SequenceView], limits: Limits) -> tuple[tuple[str, int], ...]:
        decodes = [(sequence.id, 1) for sequence in sequences if not sequence.prefilling]
        prompts = [sequence for sequence in sequences if sequence.prefilling]
        return (*decodes, *share_out(prompts, limits.max_num_batched_tokens - len(decodes), limits))
