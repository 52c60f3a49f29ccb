"""How many replicas a load wants."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingRule:
    """Between `least` and `most` replicas, each for `requests` at a time that run or wait.

    More are wanted at once; fewer only when fewer would have done for `patience` seconds, since loading takes longer
    than waiting does.
    """

    least: int
    most: int
    requests: int
    patience: float


@dataclass(frozen=True, slots=True)
class Demand:
    """What the rule wants now, and since when (s) it has been less than there is; None: it is not."""

    replicas: int
    low_since: float | None = None


def demand(rule: ScalingRule, replicas: int, in_flight: int, now: float, low_since: float | None = None) -> Demand:
    """Replicas wanted when there are `replicas` with `in_flight` requests together; `low_since` as of the last answer."""
    fitting = min(rule.most, max(rule.least, math.ceil(in_flight / rule.requests)))
    if fitting >= replicas:
        return Demand(fitting)
    since = now if low_since is None else low_since
    return Demand(fitting) if now - since >= rule.patience else Demand(replicas, since)
