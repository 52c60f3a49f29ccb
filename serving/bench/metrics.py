"""Latency statistics, in the words of vLLM's benchmark.

    TTFT   time to first token: arrival to the first token, queueing included
    TPOT   time per output token: mean gap between a request's tokens after the first
    ITL    inter-token latency: every single gap
    E2EL   end-to-end latency: arrival to the last token

Goodput counts the requests per second that keep every promise given in `slo`; Jain's fairness index is 1 when all tenants
get the same and 1/n when one of n gets everything (Jain, Chiu and Hawe 1984).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.application.recording import Recording

METRICS = ("ttft", "tpot", "itl", "e2el")
GROWTH = 1.005
"""Ratio of neighbouring buckets of a histogram: quantiles are right within half a percent."""


class Histogram:
    """Counts of positive values in logarithmic buckets: millions of gaps in a few kilobytes."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._sum = 0.0
        self.count = 0

    def add(self, value: float, count: int = 1) -> None:
        bucket = round(math.log(value) / _LOG_GROWTH) if value > 0 else _ZERO
        self._counts[bucket] = self._counts.get(bucket, 0) + count
        self._sum += value * count
        self.count += count

    @property
    def mean(self) -> float:
        return self._sum / self.count if self.count else math.nan

    def quantile(self, q: float) -> float:
        """The smallest value that at least a share `q` of the values does not exceed."""
        seen = 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= q * self.count:
                return 0.0 if bucket == _ZERO else GROWTH**bucket
        return math.nan


_LOG_GROWTH = math.log(GROWTH)
_ZERO = -(2**31)


class Samples:
    """All values, for exact quantiles."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._values = array("d", values)
        self._sorted = False

    def add(self, value: float) -> None:
        self._values.append(value)
        self._sorted = False

    @property
    def count(self) -> int:
        return len(self._values)

    @property
    def mean(self) -> float:
        return math.fsum(self._values) / len(self._values) if self._values else math.nan

    def quantile(self, q: float) -> float:
        """The smallest value that at least a share `q` of the values does not exceed."""
        if not self._values:
            return math.nan
        if not self._sorted:
            self._values = array("d", sorted(self._values))
            self._sorted = True
        return self._values[max(0, math.ceil(q * len(self._values)) - 1)]


@dataclass(slots=True)
class Latencies:
    """Collects requests as they finish. Times in seconds; `slo` maps metrics to the most a good request may take."""

    slo: Mapping[str, float] = field(default_factory=dict)
    ttft: Samples = field(default_factory=Samples)
    tpot: Samples = field(default_factory=Samples)
    e2el: Samples = field(default_factory=Samples)
    itl: Histogram = field(default_factory=Histogram)
    completed: int = 0
    good: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    first_arrival: float = math.inf
    last_finish: float = -math.inf

    def finished(
        self, *, arrival: float, first_token: float, last_token: float, prompt_tokens: int, output_tokens: int
    ) -> None:
        """One request is done."""
        taken = {"ttft": first_token - arrival, "e2el": last_token - arrival}
        if output_tokens > 1:
            taken["tpot"] = (last_token - first_token) / (output_tokens - 1)
            self.tpot.add(taken["tpot"])
        self.ttft.add(taken["ttft"])
        self.e2el.add(taken["e2el"])
        self.completed += 1
        self.good += all(taken.get(metric, 0.0) <= limit for metric, limit in self.slo.items())
        self.prompt_tokens += prompt_tokens
        self.output_tokens += output_tokens
        self.first_arrival = min(self.first_arrival, arrival)
        self.last_finish = max(self.last_finish, last_token)

    @classmethod
    def of(cls, recording: Recording, slo: Mapping[str, float] | None = None) -> Latencies:
        """Of everything in a recording that came to its own end, as the engine saw it."""
        found = cls(slo or {})
        last: dict[int, float] = {}
        for step in recording.steps:
            for item in step.work:
                if item.samples:
                    if item.request in last:
                        found.itl.add(step.end - last[item.request])
                    last[item.request] = step.end
        for request in recording.requests:
            if request.reason in ("stop", "length") and request.number in last:
                found.finished(
                    arrival=request.arrival,
                    first_token=request.first_token,
                    last_token=last[request.number],
                    prompt_tokens=request.prompt_tokens,
                    output_tokens=request.output_tokens,
                )
        return found

    @property
    def duration(self) -> float:
        """Seconds from the first arrival to the last token."""
        return max(0.0, self.last_finish - self.first_arrival)

    def figures(
        self, percentiles: Collection[float] = (50, 90, 99), metrics: Collection[str] = METRICS
    ) -> dict[str, Any]:
        """Flat, with vLLM's keys: `mean_ttft_ms`, `p99_itl_ms`, `request_throughput`, ..."""
        seconds = self.duration or math.nan
        found: dict[str, Any] = {
            "completed": self.completed,
            "duration": self.duration,
            "total_input_tokens": self.prompt_tokens,
            "total_output_tokens": self.output_tokens,
            "request_throughput": self.completed / seconds,
            "output_throughput": self.output_tokens / seconds,
            "total_token_throughput": (self.prompt_tokens + self.output_tokens) / seconds,
        }
        if self.slo:
            found["request_goodput"] = self.good / seconds
            found["good_share"] = self.good / self.completed if self.completed else math.nan
        for metric in metrics:
            values = getattr(self, metric)
            found[f"mean_{metric}_ms"] = 1000 * values.mean
            for percentile in percentiles:
                found[f"p{percentile:g}_{metric}_ms"] = 1000 * values.quantile(percentile / 100)
        return {key: _json(value) for key, value in found.items()}


def _json(value: float) -> float | int | None:
    """JSON has no NaN: what nobody measured is null."""
    if isinstance(value, int):
        return value
    return None if math.isnan(value) else round(value, 4)


def fairness(recording: Recording) -> float:
    """Jain's index over tenants of the tokens computed for each while all of them had a request in the engine."""
    requests = recording.requests
    served = dict.fromkeys((request.tenant for request in requests), 0)
    present: dict[str, int] = dict.fromkeys(served, 0)
    changes = [(request.arrival, 1, request.tenant) for request in requests]
    changes += [
        (math.inf if request.finished is None else request.finished, -1, request.tenant) for request in requests
    ]
    changes.sort(reverse=True)
    for step in recording.steps:
        while changes and changes[-1][0] <= step.start:
            _, change, tenant = changes.pop()
            present[tenant] += change
        if all(present.values()):
            for item in step.work:
                served[requests[item.request].tenant] += item.tokens
    return jain(served.values())


def jain(served: Iterable[float]) -> float:
    """Jain's fairness index of what each got."""
    values = list(served)
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def table(figures: Mapping[str, Any], percentiles: Collection[float], metrics: Collection[str]) -> str:
    """The latencies as text, in milliseconds."""
    columns = ["mean", *(f"p{percentile:g}" for percentile in percentiles)]
    lines = [f"{'ms':<6}" + "".join(f"{column:>11}" for column in columns)]
    for metric in metrics:
        cells = (figures[f"{column}_{metric}_ms"] for column in columns)
        lines.append(
            f"{metric.upper():<6}" + "".join(f"{'-' if cell is None else f'{cell:.2f}':>11}" for cell in cells)
        )
    return "\n".join(lines)
