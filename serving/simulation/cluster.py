"""The discrete-event loop: arrivals from a workload, a router, and replicas that end steps at times of their own."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from serving.bench.metrics import METRICS, Latencies, jain
from serving.bench.workload import Job
from serving.domain.config import SchedulerConfig
from serving.domain.plan import StepReport
from serving.simulation.replica import Books, Replica, StepTimes
from serving.simulation.routers import make_router

PROGRESS_EVERY = 500  # finished requests


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a simulation found. `wall_seconds` is how long it took to find out."""

    policy: str
    latencies: Latencies
    fairness: float
    """Jain's index over the tenants of the tokens computed for each while all of them had requests; 1 for one tenant."""
    steps: int
    tokens: int
    refused: int
    expired: int
    preemptions: int
    cached_tokens: int
    wall_seconds: float

    def figures(self, percentiles: Iterable[float] = (50, 90, 99), metrics: Iterable[str] = METRICS) -> dict[str, Any]:
        """Flat, for JSON."""
        return {
            "policy": self.policy,
            **self.latencies.figures(tuple(percentiles), tuple(metrics)),
            "fairness": round(self.fairness, 4),
            "steps": self.steps,
            "refused": self.refused,
            "expired": self.expired,
            "preemptions": self.preemptions,
            "cached_tokens": self.cached_tokens,
            "wall_seconds": round(self.wall_seconds, 3),
            "requests_per_wall_second": round(self.latencies.completed / self.wall_seconds, 1),
        }


def simulate(
    jobs: Iterable[Job],
    config: SchedulerConfig,
    step_time: StepTimes,
    *,
    replicas: int = 1,
    router: str = "round-robin",
    slo: Mapping[str, float] | None = None,
    observer: Callable[[StepReport], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Run `jobs` (in order of arrival; may be a generator of millions) through `replicas` engines to the last token.

    `slo` maps metrics to seconds, see `Latencies`; `observer` sees every step; `progress` is called with how many more
    requests have finished. Raises LifecycleError for an unknown router.
    """
    books = Books(Latencies(slo or {}))
    engines = [Replica(config, step_time, books, observer) for _ in range(replicas)]
    started = time.perf_counter()
    _run(iter(jobs), engines, make_router(router, engines), books, progress or (lambda more: None))
    counters = [engine.scheduler.counters for engine in engines]
    return Outcome(
        policy=config.policy,
        latencies=books.latencies,
        fairness=jain(books.served[tenant] for tenant in books.in_flight) if books.served else 1.0,
        steps=books.steps,
        tokens=books.tokens,
        refused=books.refused,
        expired=books.expired,
        preemptions=sum(counter.preemptions for counter in counters),
        cached_tokens=sum(counter.cached_tokens for counter in counters),
        wall_seconds=time.perf_counter() - started,
    )


def _run(jobs: Iterable[Job], engines: list[Replica], router, books: Books, progress: Callable[[int], None]) -> None:
    """Arrivals come before steps of the same moment: a request that is there when a step begins can be in it."""
    order = itertools.count()
    due: list[tuple[float, int, int]] = []  # (time, tie-breaker, replica)
    upcoming = next(jobs, None)
    told = 0
    while upcoming is not None or due:
        if upcoming is not None and upcoming.arrival <= (due[0][0] if due else math.inf):
            number = router.route(upcoming)
            engine, now = engines[number], upcoming.arrival
            if engine.submit(upcoming, now):
                router.loaded(number)
                if engine.due == now:
                    heapq.heappush(due, (now, next(order), number))
            upcoming = next(jobs, None)
            continue
        now, _, number = heapq.heappop(due)
        engine = engines[number]
        if engine.due != now:
            continue
        before = engine.load
        engine.wake(now)
        if engine.load != before:
            router.loaded(number)
        if engine.due is not None:
            heapq.heappush(due, (engine.due, next(order), number))
        if books.latencies.completed - told >= PROGRESS_EVERY:
            progress(books.latencies.completed - told)
            told = books.latencies.completed
    progress(books.latencies.completed - told)
