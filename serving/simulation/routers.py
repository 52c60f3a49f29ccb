"""Which replica gets the next request. A router is told about every request that a replica takes and ends."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from typing import Protocol

from lifecycle.config import choose
from serving.bench.workload import Job
from serving.simulation.replica import Replica

OVERLOAD = 1.25
"""Prefix affinity gives way when the preferred replica has this many times the mean load (Mirrokni et al. 2016)."""


class Router(Protocol):
    """Picks a replica by number."""

    def route(self, job: Job) -> int: ...

    def loaded(self, number: int) -> None:
        """The load of a replica has changed."""


class RoundRobin:
    """One after the other, whatever they have to do."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._count = len(replicas)
        self._next = -1

    def route(self, job: Job) -> int:
        self._next = (self._next + 1) % self._count
        return self._next

    def loaded(self, number: int) -> None:
        """Of no interest."""


class LeastLoaded:
    """The one with the fewest requests; among equals the one that has waited longest for another."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._turn = 0
        # (load, turn, number); an entry is valid while it is the newest of its replica.
        self._heap = [(replica.load, 0, number) for number, replica in enumerate(replicas)]
        self._newest = [0] * len(replicas)

    def route(self, job: Job) -> int:
        while self._heap[0][1] != self._newest[self._heap[0][2]]:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def loaded(self, number: int) -> None:
        self._turn += 1
        self._newest[number] = self._turn
        heapq.heappush(self._heap, (self._replicas[number].load, self._turn, number))


class PrefixAffinity:
    """Prompts that begin alike go where that beginning is cached, unless that replica has far more to do than others.

    What counts as the beginning is the first block; prompts without a known one go to the least loaded replica.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._replicas = replicas
        self._least = LeastLoaded(replicas)
        self._homes: dict[int, int] = {}
        self._total = 0
        self._loads = [0] * len(replicas)

    def route(self, job: Job) -> int:
        if not job.prefix:
            return self._least.route(job)
        home = self._homes.get(job.prefix[0])
        limit = OVERLOAD * (self._total + 1) / len(self._replicas) + 1
        if home is None or self._loads[home] > limit:
            home = self._homes[job.prefix[0]] = self._least.route(job)
        return home

    def loaded(self, number: int) -> None:
        load = self._replicas[number].load
        self._total += load - self._loads[number]
        self._loads[number] = load
        self._least.loaded(number)


ROUTERS: dict[str, Callable[[Sequence[Replica]], Router]] = {
    "round-robin": RoundRobin,
    "least-loaded": LeastLoaded,
    "prefix-affinity": PrefixAffinity,
}


def make_router(name: str, replicas: Sequence[Replica]) -> Router:
    """Raises LifecycleError for an unknown name."""
    return choose("router", name, ROUTERS)(replicas)
