"""Who comes first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from operator import attrgetter

from serving.domain.learning import OutputLengths, StepTime, TenantService
from serving.domain.plan import SequenceView

_arrival = attrgetter("arrival")


class ByArrival:
    """First come, first served; a preempted sequence keeps its place."""

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
        return sorted(sequences, key=_arrival)


class ByPriority:
    """Smaller `priority` first, and `ageing_rate` levels better per second of waiting.

    Ageing makes starvation impossible: only what arrives within (difference in priority / rate) seconds overtakes. Since
    all age alike, two sequences never change places with time, and so never preempt each other in turn.
    """

    def __init__(self, ageing_rate: float) -> None:
        self._rate = ageing_rate

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
        return sorted(sequences, key=lambda s: (s.priority - self._rate * (now - s.arrival), s.arrival))


def alone(sequence: SequenceView, decodes: int, time: StepTime) -> float:
    """Seconds to compute what remains of a sequence and `decodes` further tokens with the machine to itself."""
    base, per_token, per_kv = time.coefficients
    once = base + per_kv * sequence.target
    return once + per_token * sequence.remaining + decodes * (once + per_token)


class ByResponseRatio:
    """Highest response ratio next: (waiting + service) / service, with service as predicted for the sequence alone.

    Short jobs go first, yet every ratio grows with waiting, so that long ones are not starved (Brinch Hansen, 1971).
    A prompt that the prefix cache knows is a short job.
    """

    def __init__(self, lengths: OutputLengths, time: StepTime) -> None:
        self._lengths = lengths
        self._time = time

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
        return sorted(sequences, key=lambda s: (-max(0.0, now - s.arrival) / self._service(s), s.arrival))

    def _service(self, sequence: SequenceView) -> float:
        return alone(sequence, self._lengths.remaining(sequence), self._time) + 1e-9


class LeastServedTenant:
    """The tenant that has had least comes first, each tenant's own requests by arrival.

    Every request taken counts at once with what it will probably cost, or one tenant would fill all free places in one
    step.
    """

    def __init__(self, service: TenantService, lengths: OutputLengths) -> None:
        self._service = service
        self._lengths = lengths

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
        queues: dict[str, deque[SequenceView]] = {}
        for sequence in sorted(sequences, key=_arrival):
            queues.setdefault(sequence.tenant, deque()).append(sequence)
        heap = [(self._service.level(tenant), queue[0].arrival, tenant) for tenant, queue in queues.items()]
        heapq.heapify(heap)
        ordered = []
        while heap:
            level, _, tenant = heap[0]
            queue = queues[tenant]
            ordered.append(sequence := queue.popleft())
            if queue:
                cost = sequence.remaining + self._service.decode_cost * self._lengths.remaining(sequence)
                heapq.heapreplace(heap, (level + self._service.share(tenant, cost), queue[0].arrival, tenant))
            else:
                heapq.heappop(heap)
        return ordered


class BySlack:
    """Least slack first: the time left until a sequence is due, minus the time that it still needs.

    Due is a request's own deadline, else the promised time to its next token. Those that can no longer make it let the
    others pass, but not for longer than `patience` seconds: then they come before everybody.
    """

    def __init__(self, lengths: OutputLengths, time: StepTime, *, ttft: float, tpot: float, patience: float) -> None:
        self._lengths = lengths
        self._time = time
        self._ttft = ttft
        self._tpot = tpot
        self._patience = patience

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]:
        return sorted(sequences, key=lambda s: self._urgency(s, now))

    def _urgency(self, sequence: SequenceView, now: float) -> tuple[int, float, float]:
        due, need = self.due(sequence), self.need(sequence)
        slack = due - now - need
        if now - due > self._patience:
            return (0, due, sequence.arrival)
        return (1, slack, sequence.arrival) if slack >= 0 else (2, due, sequence.arrival)

    def due(self, sequence: SequenceView) -> float:
        """When a sequence has to have what `need` measures."""
        if sequence.deadline is not None:
            return sequence.deadline
        return sequence.arrival + self._ttft + self._tpot * sequence.generated

    def need(self, sequence: SequenceView) -> float:
        """Seconds to the end when there is a deadline, else to the next token."""
        steps = self._lengths.remaining(sequence) if sequence.deadline is not None else 0
        return alone(sequence, steps, self._time)
