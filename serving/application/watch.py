"""Looking over an engine's shoulder: what it does, as it does it, for any number of people and at no cost to the engine.

    engine's thread:  watch(observation)                     one store into a ring, whoever looks
    viewer's thread:  viewer.frame() -> dict                 numbering, lanes, joined bars, percentiles

The ring keeps the newest observations, so that somebody who comes late sees the recent past, too. A viewer who is slower than
the engine loses the oldest ones and is told how many.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from serving.application.observing import Observation, Observer
from serving.domain.errors import QueueFull
from serving.domain.events import Finished
from serving.domain.plan import SequenceWork, StepReport
from serving.domain.request import Request

RING = 1024  # observations; a second or two of a busy engine, minutes of a quiet one
MAX_VIEWERS = 32  # each holds a thread of the server
WINDOW = 512  # latencies that the percentiles are of
RATE_SECONDS = 2.0
PERCENTILES = (50, 90, 99)


class Arrival(NamedTuple):
    """What is kept of a request: never its text."""

    id: str
    time: float  # seconds of the engine's clock
    prompt_tokens: int
    max_tokens: int


Kept = Arrival | StepReport | Finished


class EngineWatch:
    """An engine observer. Written by the engine's thread only, read by any number of viewers, without a lock.

    A slot is replaced whole, with its number, so a reader either gets what it asked for or sees that it is gone.
    """

    def __init__(self, size: int = RING) -> None:
        self._ring: list[tuple[int, Kept] | None] = [None] * size
        self._count = 0
        self._viewers = 0
        self._lock = threading.Lock()

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, Request):
            sampling = observation.sampling
            observation = Arrival(
                observation.id, observation.arrival, len(observation.prompt_tokens), sampling.max_tokens
            )
        self._ring[self._count % len(self._ring)] = (self._count, observation)
        self._count += 1

    @property
    def viewers(self) -> int:
        return self._viewers

    def since(self, number: int) -> tuple[list[Kept], int, int]:
        """(observations from `number` on that are still there, oldest first; the next number; how many are lost)."""
        end = self._count
        slots = (self._ring[at % len(self._ring)] for at in range(max(number, end - len(self._ring)), end))
        kept = [slot[1] for slot in slots if slot is not None and number <= slot[0] < end]
        return kept, end, end - number - len(kept)

    def open(self) -> Viewer:
        """Begin to look. Raises QueueFull when too many do already."""
        with self._lock:
            if self._viewers >= MAX_VIEWERS:
                raise QueueFull(f"{MAX_VIEWERS} viewers watch this engine already; close one of them", retry_after=5.0)
            self._viewers += 1
        return Viewer(self)

    def leave(self) -> None:
        with self._lock:
            self._viewers -= 1


def both(*observers: Observer) -> Observer:
    """One observer that tells several, in order."""

    def tell(observation: Observation) -> None:
        for observer in observers:
            observer(observation)

    return tell


@dataclass(slots=True)
class _Row:
    """One request that the viewer knows: its number and its lane, and when it last got a token."""

    number: int
    lane: int = -1
    arrival: float | None = None
    last_token: float | None = None


@dataclass(slots=True)
class _Bar:
    row: _Row
    kind: str
    start: float
    end: float
    tokens: int
    steps: int = 1

    def to_json(self) -> list[Any]:
        return [
            self.row.lane,
            self.row.number,
            self.kind[0],
            round(self.start, 4),
            round(self.end, 4),
            self.tokens,
            self.steps,
        ]


class Viewer:
    """One person's view of an engine, in frames. Not for several threads at once; `close` it."""

    def __init__(self, watch: EngineWatch) -> None:
        self._watch = watch
        self._at = 0
        self._open = True
        self._rows: dict[str, _Row] = {}
        self._over: list[str] = []
        self._free_lanes: list[int] = []
        self._lanes = 0
        self._count = 0
        self._ttft: deque[float] = deque(maxlen=WINDOW)
        self._itl: deque[float] = deque(maxlen=WINDOW)
        self._produced: deque[tuple[float, int]] = deque()  # (end of a step, new tokens)

    def close(self) -> None:
        """Safe more than once."""
        if self._open:
            self._open = False
            self._watch.leave()

    def lanes(self) -> dict[str, int]:
        """The lane of every request that has one, by id."""
        return {name: row.lane for name, row in self._rows.items() if row.lane >= 0}

    def frame(self) -> dict[str, Any] | None:
        """What happened since the last frame, times in seconds of the engine's clock; None when nothing did.

        A bar is [lane, request, "p" or "d", start, end, tokens, steps]: neighbouring steps of one kind are joined.
        """
        kept, self._at, lost = self._watch.since(self._at)
        if not kept and not lost:
            return None
        if lost:
            self._start_over()
        arrivals: list[list[Any]] = []
        ends: list[list[Any]] = []
        bars: list[_Bar] = []
        last: dict[str, _Bar] = {}
        steps = [seen for seen in kept if isinstance(seen, StepReport)]
        for seen in kept:
            if isinstance(seen, StepReport):
                self._step(seen, bars, last)
            elif isinstance(seen, Arrival):
                row = self._rows[seen.id] = self._row(seen.id)
                row.arrival = seen.time
                arrivals.append([row.number, round(seen.time, 4), seen.prompt_tokens, seen.max_tokens])
            elif (row := self._rows.get(seen.request_id)) is not None:
                ends.append([row.number, seen.reason, seen.completion_tokens, seen.cached_tokens])
                self._over.append(seen.request_id)
        if not steps:
            self._forget()
        return {
            "arrivals": arrivals,
            "bars": [bar.to_json() for bar in bars],
            "ends": ends,
            "lost": lost,
            **(self._load(steps[-1]) if steps else {}),
        }

    def latencies(self) -> dict[str, Any]:
        """Percentiles in milliseconds of the newest requests and tokens that this viewer saw, by name."""
        return {"ttft_ms": _percentiles(self._ttft), "itl_ms": _percentiles(self._itl)}

    def _step(self, report: StepReport, bars: list[_Bar], last: dict[str, _Bar]) -> None:
        end = report.start + report.duration
        for work in report.work:
            row = self._row(work.id)
            if row.lane < 0:
                row.lane = self._take_lane()
            bar = last.get(work.id)
            if bar is not None and bar.kind == work.kind:
                bar.end, bar.tokens, bar.steps = end, bar.tokens + work.tokens, bar.steps + 1
            else:
                bar = last[work.id] = _Bar(row, work.kind, report.start, end, work.tokens)
                bars.append(bar)
            if work.samples:
                self._token(row, work, end)
        self._produced.append((end, sum(work.produced for work in report.work)))
        while self._produced[0][0] < end - RATE_SECONDS:
            self._produced.popleft()
        self._forget()

    def _token(self, row: _Row, work: SequenceWork, end: float) -> None:
        if row.last_token is not None:
            self._itl.extend([(end - row.last_token) / work.produced] * work.produced)
        elif row.arrival is not None:
            self._ttft.append(end - row.arrival)
        row.last_token = end

    def _load(self, report: StepReport) -> dict[str, Any]:
        """How things stand after a step."""
        now = report.start + report.duration
        return {
            "step": report.step,
            "time": round(now, 4),
            "running": report.running,
            "waiting": report.waiting,
            "kv_used": report.kv_used,
            "kv_cached": report.kv_cached,
            "kv_total": report.kv_total,
            "preemptions": report.preemptions,
            "tokens_per_second": round(sum(count for _, count in self._produced) / RATE_SECONDS, 1),
            **self.latencies(),
        }

    def _row(self, name: str) -> _Row:
        if name not in self._rows:
            self._rows[name] = _Row(self._count)
            self._count += 1
        return self._rows[name]

    def _take_lane(self) -> int:
        """The lowest lane that nobody has."""
        if self._free_lanes:
            return heapq.heappop(self._free_lanes)
        self._lanes += 1
        return self._lanes - 1

    def _forget(self) -> None:
        """The end of a request comes before the report of its last step, so its row goes after that."""
        for name in self._over:
            row = self._rows.pop(name, None)
            if row is not None and row.lane >= 0:
                heapq.heappush(self._free_lanes, row.lane)
        self._over.clear()

    def _start_over(self) -> None:
        """Ends may be among what was lost: requests that are still there come back with their next step."""
        self._rows.clear()
        self._over.clear()
        self._free_lanes.clear()
        self._produced.clear()
        self._lanes = 0


def _percentiles(seconds: Iterable[float]) -> dict[str, float]:
    """{"p50": milliseconds, ...}; empty when there is nothing to rank."""
    ranked = sorted(seconds)
    return {f"p{share}": round(1000 * ranked[(len(ranked) - 1) * share // 100], 2) for share in PERCENTILES if ranked}
