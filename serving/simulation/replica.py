"""One engine without a model: the real scheduler, policy and block pool, and a step that takes as long as a model says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.bench.metrics import Latencies
from serving.bench.workload import Job
from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.events import Event, Finished
from serving.domain.plan import StepReport
from serving.domain.policies import make_policy
from serving.domain.request import Request, SamplingParams
from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence

StepTimes = Callable[[int, int, int], float]
"""(tokens, kv_read, sequences) to seconds."""
HELD_BACK = 0.01  # seconds until a policy that planned nothing is asked again, as in the engine
PATIENCE = 10_000  # such answers in a row mean that it will never plan anything
TOKEN = 1  # what everybody answers: nothing here depends on it


class Stuck(RuntimeError):
    """A policy left requests waiting in an idle engine for ever."""


@dataclass(slots=True)
class Books:
    """What all replicas write into."""

    latencies: Latencies
    in_flight: Counter[str] = field(default_factory=Counter)
    """Requests by tenant."""
    served: Counter[str] = field(default_factory=Counter)
    """Tokens computed by tenant, while every tenant that ever came had a request in some engine."""
    steps: int = 0
    tokens: int = 0
    refused: int = 0
    expired: int = 0

    @property
    def contended(self) -> bool:
        return all(self.in_flight.values())


@dataclass(slots=True)
class _Flight:
    job: Job
    first: float = 0.0
    last: float = 0.0
    tokens: int = 0


class Replica:
    """Call `submit` when a request arrives and `wake` at the times that `due` says. Times in seconds."""

    def __init__(
        self,
        config: SchedulerConfig,
        step_time: StepTimes,
        books: Books,
        observer: Callable[[StepReport], None] | None = None,
    ) -> None:
        if config.num_blocks is None:
            raise ValueError("a simulated pool has no memory to fill: give num_blocks")
        self._config = config
        self._step_time = step_time
        self._books = books
        self._observer = observer
        pool = BlockPool(config.num_blocks, config.block_size, prefix_caching=config.prefix_caching)
        self.scheduler = Scheduler(config, make_policy(config.policy, config), pool)
        self._inbox: list[Sequence] = []  # until the step is over, as in the engine's queue of commands
        self._flights: dict[str, _Flight] = {}
        self._work: list[Work] = []
        self._began = 0.0
        self._held_back = 0
        self.due: float | None = None
        """When `wake` wants to be called; calls at other times are for nothing."""

    @property
    def load(self) -> int:
        """Requests in the engine."""
        return len(self._flights)

    def submit(self, job: Job, now: float) -> bool:
        """Queue a request; False when an engine would refuse it: too long, or too many wait."""
        config, books = self._config, self._books
        too_long = job.prompt_tokens + job.output_tokens > config.num_blocks * config.block_size
        if too_long or self.load >= config.max_num_seqs + config.queue_limit:
            books.refused += 1
            return False
        request = Request(
            str(job.number),
            job.symbols(),
            SamplingParams(temperature=0.0, max_tokens=job.output_tokens),
            arrival=now,
            priority=job.priority,
            tenant=job.tenant,
            deadline=job.deadline,
        )
        self._flights[request.id] = _Flight(job)
        books.in_flight[job.tenant] += 1
        self._inbox.append(Sequence(request, arrival=now, seed=0, block_size=config.block_size))
        if not self._work:
            self.due = now
        return True

    def wake(self, now: float) -> None:
        """End the step that is due and begin the next. `due` is None afterwards when there is nothing to do."""
        if self._work:
            self._finish_step(now)
        for sequence in self._inbox:
            self.scheduler.add(sequence)
        self._inbox.clear()
        self._book_ends(self.scheduler.expire(now), now)
        self._work = self.scheduler.schedule(now)
        self._began = now
        if self._work:
            self._held_back = 0
            tokens = sum(work.count for work in self._work)
            kv_read = sum(work.start + work.count for work in self._work)
            self.due = now + self._step_time(tokens, kv_read, len(self._work))
        else:
            self.due = self._hold_back(now) if self.scheduler.num_waiting else None

    def _hold_back(self, now: float) -> float:
        self._held_back += 1
        if self._held_back > PATIENCE:
            raise Stuck(f'policy "{self._config.policy}" plans nothing although {self.scheduler.num_waiting} wait')
        return now + HELD_BACK

    def _finish_step(self, now: float) -> None:
        books, flights = self._books, self._flights
        books.steps += 1
        contended = len(books.in_flight) > 1 and books.contended
        itl = books.latencies.itl
        for sequence, _, count, _, samples, *_ in self._work:
            flight = flights[sequence.id]
            books.tokens += count
            if contended:
                books.served[flight.job.tenant] += count
            if samples:
                if flight.tokens:
                    itl.add(now - flight.last)
                else:
                    flight.first = now
                flight.last = now
                flight.tokens += 1
        events = self.scheduler.complete(self._work, [TOKEN] * sum(work.samples for work in self._work))
        self._book_ends(events, now)
        report = self.scheduler.report(self._work, self._began, now - self._began)
        self.scheduler.policy.observe(report)
        if self._observer is not None:
            self._observer(report)
        self._work = []

    def _book_ends(self, events: list[Event], now: float) -> None:
        for event in events:
            if not isinstance(event, Finished):
                continue
            flight = self._flights.pop(event.request_id)
            self._books.in_flight[flight.job.tenant] -= 1
            if event.reason == "error":
                self._books.expired += 1
                continue
            self._books.latencies.finished(
                arrival=flight.job.arrival,
                first_token=flight.first,
                last_token=now,
                prompt_tokens=event.prompt_tokens,
                output_tokens=flight.tokens,
            )
