"""Which replica gets the next request. A router is told about every request that a replica takes and ends."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from lifecycle.config import choose
from serving.bench.workload import Job
from serving.domain.routing import PrefixRouter
from serving.simulation.replica import Replica


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


class PowerOfTwo:
    """The lighter of two at random. With `affinity`, prompts that begin alike go where that beginning is cached.

    The very router that stands before the replicas of a server, see `serving.domain.routing`.
    """

    def __init__(self, replicas: Sequence[Replica], *, affinity: bool = False) -> None:
        self._replicas = replicas
        self._router = PrefixRouter()
        self._affinity = affinity
        self._total = 0
        self._loads = [0] * len(replicas)

    def route(self, job: Job) -> int:
        prefix = [(job.tenant, content) for content in job.prefix] if self._affinity else ()
        return self._router.route(range(len(self._loads)), self._loads.__getitem__, self._total, prefix)

    def loaded(self, number: int) -> None:
        load = self._replicas[number].load
        self._total += load - self._loads[number]
        self._loads[number] = load


ROUTERS: dict[str, Callable[[Sequence[Replica]], Router]] = {
    "round-robin": RoundRobin,
    "least-loaded": LeastLoaded,
    "power-of-two": PowerOfTwo,
    "prefix-affinity": partial(PowerOfTwo, affinity=True),
}


def make_router(name: str, replicas: Sequence[Replica]) -> Router:
    """Raises LifecycleError for an unknown name."""
    return choose("router", name, ROUTERS)(replicas)
