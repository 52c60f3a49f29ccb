"""A server's /metrics as numbers, and what two readings say about the time between them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

SAMPLE = re.compile(r"^serving:(\w+)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of the page; names without their prefix."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The page at one moment; `time` in seconds."""

    time: float
    samples: list[Sample] = field(default_factory=list)

    @classmethod
    def of(cls, page: str, time: float) -> Reading:
        return cls(time, list(_samples(page)))

    def models(self) -> list[str]:
        return list(dict.fromkeys(one.labels["model_name"] for one in self.named("num_requests_running")))

    def named(self, name: str, **labels: str) -> Iterator[Sample]:
        """Samples of a metric that have these labels."""
        return (one for one in self.samples if one.name == name and labels.items() <= one.labels.items())

    def value(self, name: str, **labels: str) -> float:
        """Their sum; 0 where there is none."""
        return sum(one.value for one in self.named(name, **labels))


@dataclass(frozen=True, slots=True)
class Interval:
    """From one reading to a later one; without an earlier one, since the server started."""

    after: Reading
    before: Reading | None = None

    def rate(self, name: str, **labels: str) -> float | None:
        """Of a counter, per second; None when the time is not known. A counter that was reset began at 0."""
        if self.before is None or self.after.time <= self.before.time:
            return None
        return self.grown(name, **labels) / (self.after.time - self.before.time)

    def grown(self, name: str, **labels: str) -> float:
        now = self.after.value(name, **labels)
        then = 0.0 if self.before is None else self.before.value(name, **labels)
        return now - then if now >= then else now

    def quantile(self, histogram: str, share: float, **labels: str) -> float | None:
        """Seconds below which `share` of the observations lie, to the upper end of their bucket; None without any."""
        bounds = dict.fromkeys(one.labels["le"] for one in self.after.named(f"{histogram}_bucket", **labels))
        counts = [(float(bound), self.grown(f"{histogram}_bucket", **labels, le=bound)) for bound in bounds]
        total = max((count for _, count in counts), default=0.0)
        return next((bound for bound, count in sorted(counts) if total and count >= share * total), None)


def _samples(page: str) -> Iterator[Sample]:
    for line in page.splitlines():
        if (found := SAMPLE.match(line)) is not None:
            name, labels, value = found.groups()
            told = {key: re.sub(r"\\.", lambda one: ESCAPED.get(one[0], one[0]), text) for key, text in LABEL.findall(labels or "")}
            yield Sample(name, told, float(value))
