"""A new version on trial beside the one in place: who is sent to it, and when it is taken back.

Everything here is a pure function of its arguments; `serving.application.canary` keeps the windows and acts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from statistics import median

SIGNIFICANT = 2.58  # standard errors: chance alone goes so far in one of 200 comparisons
ALL_FAIL = 5  # this many failures and not one success need no larger sample


@dataclass(frozen=True)
class CanaryRules:
    """How a new version is tried, and when it is given up. Raises ValueError for a value that cannot work."""

    canary_percent: float = 0.0
    """Share of the requests for production that "candidate" answers, in percent; the same tenants or sessions every time."""
    shadow_percent: float = 0.0
    """Share of them that "candidate" answers beside production; nobody sees its answers, which are compared."""
    canary_window: float = 300.0
    """Seconds that are looked back on; and how long production is watched after it has moved."""
    canary_requests: int = 30
    """Smallest number of requests in the window, of either version, that says anything."""
    canary_errors: float = 2.0
    """Percentage points by which the share of failed requests may be higher."""
    canary_latency: float = 1.5
    """How many times longer the median first token, or the median gap between tokens, may take."""
    canary_watch: bool = False
    """When the alias of production moves and the new version does worse, move it back."""
    canary_card: int = 0
    """Tasks of each skill for report cards of both versions, made beside serving before the trial; 0 makes none."""

    def __post_init__(self) -> None:
        for field in fields(CanaryRules):
            if not 0 <= getattr(self, field.name) < math.inf:
                raise ValueError(f"{field.name} must be at least 0, not {getattr(self, field.name)}")
        for name in ("canary_percent", "shadow_percent"):
            if getattr(self, name) > 100:
                raise ValueError(f"{name} must be at most 100, not {getattr(self, name)}")
        if not self.canary_latency >= 1:
            raise ValueError(f"canary_latency must be at least 1, not {self.canary_latency}")
        if not self.canary_requests >= 1 or not self.canary_window > 0:
            raise ValueError("canary_requests and canary_window must be above 0")

    @property
    def tries(self) -> bool:
        """Whether there is anything to look after."""
        return self.canary_percent > 0 or self.shadow_percent > 0 or self.canary_watch


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request went; seconds, None where it had no such token."""

    failed: bool
    first_token: float | None = None
    per_token: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the requests of one version came to; medians in seconds, None where there is nothing to rank."""

    requests: int = 0
    failures: int = 0
    first_token: float | None = None
    per_token: float | None = None


def chosen(key: str, salt: str, percent: float) -> bool:
    """Whether `key` is among the `percent`: always the same for a key and a salt, and growing with the percentage."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < percent / 100 * 2**64


def summarize(outcomes: Iterable[Outcome]) -> Sample:
    everything = list(outcomes)
    first = [one.first_token for one in everything if one.first_token is not None]
    gaps = [one.per_token for one in everything if one.per_token is not None]
    return Sample(
        len(everything),
        sum(one.failed for one in everything),
        median(first) if first else None,
        median(gaps) if gaps else None,
    )


def judge(candidate: Sample, baseline: Sample, rules: CanaryRules) -> str | None:
    """Why the candidate has to go; None: it may go on.

    Failures count when their share is higher by more than the allowed points and by more than chance explains (two
    proportions, pooled); a version that answers nobody goes after `ALL_FAIL` requests. Latencies are medians of windows
    that are large enough on both sides.
    """
    if ALL_FAIL <= candidate.requests == candidate.failures and baseline.failures < baseline.requests:
        return f"all of its {candidate.requests} requests failed"
    if min(candidate.requests, baseline.requests) < rules.canary_requests:
        return None
    if (why := _fails_more(candidate, baseline, rules.canary_errors / 100)) is not None:
        return why
    for name, new, old in (
        ("first token", candidate.first_token, baseline.first_token),
        ("gap between tokens", candidate.per_token, baseline.per_token),
    ):
        if new is not None and old is not None and new > rules.canary_latency * old:
            return f"its median {name} takes {1e3 * new:.1f} ms against {1e3 * old:.1f} ms"
    return None


def _fails_more(candidate: Sample, baseline: Sample, margin: float) -> str | None:
    new, old = candidate.failures / candidate.requests, baseline.failures / baseline.requests
    both = (candidate.failures + baseline.failures) / (candidate.requests + baseline.requests)
    spread = math.sqrt(both * (1 - both) * (1 / candidate.requests + 1 / baseline.requests))
    if new - old > margin and new - old > SIGNIFICANT * spread:
        return f"{new:.1%} of its {candidate.requests} requests failed, against {old:.1%}"
    return None
