"""What policies learn from finished steps. All of it changes in `observe` alone, so that planning stays pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Mapping
from typing import Protocol

from serving.domain.config import SchedulerConfig, parse_weights
from serving.domain.plan import SequenceView, StepReport


class Learner(Protocol):
    """Sees every step once, after it ran."""

    def observe(self, report: StepReport) -> None: ...


class OutputLengths:
    """How long answers get, from the last `MEMORY` that ended: better than reserving `max_tokens` for everyone.

    The idea is that of LightLLM's past-future scheduler (Gong et al., 2025).
    """

    MEMORY = 256

    def __init__(self, config: SchedulerConfig) -> None:
        self._unknown = config.expected_output
        self._quantile = config.output_quantile
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []

    def observe(self, report: StepReport) -> None:
        for length in report.finished:
            if len(self._recent) == self.MEMORY:
                del self._sorted[bisect_right(self._sorted, self._recent.popleft()) - 1]
            self._recent.append(length)
            insort(self._sorted, length)

    def remaining(self, sequence: SequenceView) -> int:
        """Tokens that a sequence will probably still generate, at most what it may.

        Once bitten, twice shy: a preempted sequence counts with all that it may generate. So a wrong guess costs a
        sequence its memory once, not again and again.
        """
        left = max(1, sequence.max_tokens - sequence.generated)
        if sequence.preemptions:
            return left
        longer = bisect_right(self._sorted, sequence.generated)
        if longer == len(self._sorted):  # longer than any before, or none before: expect as much again
            return min(left, max(self._unknown, sequence.generated))
        rank = longer + int(self._quantile * (len(self._sorted) - 1 - longer))
        return min(left, self._sorted[rank] - sequence.generated)


class StepTime:
    """How long a step takes: t = base + per_token * tokens + per_kv * kv_tokens, in seconds.

    Least squares over all steps seen, older ones fading with a half-life of about `HALF_LIFE` steps. It starts from a
    guess that weighs as much as a few steps, and no coefficient ever gets negative.
    """

    HALF_LIFE = 500
    PRIOR = (5e-3, 2e-4, 1e-7)
    _UNITS = (1.0, 100.0, 10_000.0)  # a typical step has all three features near 1, which keeps the equations healthy
    _TRUST = 1e-2

    def __init__(self) -> None:
        self._fade = 0.5 ** (1 / self.HALF_LIFE)
        # Normal equations of (coefficients - prior); the diagonal pulls towards the prior.
        self._squares = [[0.0] * 3 for _ in range(3)]
        self._products = [0.0] * 3
        self.coefficients = self.PRIOR

    def observe(self, report: StepReport) -> None:
        tokens = report.tokens / report.passes
        features = [1.0, tokens / self._UNITS[1], report.kv_tokens / self._UNITS[2]]
        error = report.duration / report.passes - sum(
            x * prior * unit for x, prior, unit in zip(features, self.PRIOR, self._UNITS, strict=True)
        )
        for i in range(3):
            self._products[i] = self._fade * self._products[i] + features[i] * error
            for j in range(3):
                self._squares[i][j] = self._fade * self._squares[i][j] + features[i] * features[j]
        self.coefficients = self._fit()

    def predict(self, tokens: float, kv_tokens: float) -> float:
        """Seconds of a step that computes `tokens` and reads `kv_tokens` positions."""
        base, per_token, per_kv = self.coefficients
        return base + per_token * tokens + per_kv * kv_tokens

    def tokens_within(self, seconds: float, kv_tokens: float) -> int:
        """The most tokens that a step of at most `seconds` can compute beside reading `kv_tokens`; may be 0."""
        base, per_token, per_kv = self.coefficients
        spare = seconds - base - per_kv * kv_tokens
        return max(0, int(spare / max(per_token, 1e-9)))

    def _fit(self) -> tuple[float, float, float]:
        """Solve; a coefficient that comes out negative is held at 0 and the others are solved again."""
        held: set[int] = set()
        while True:
            scaled = self._solve(held)
            negative = [i for i in range(3) if i not in held and scaled[i] < 0]
            if not negative:
                return tuple(value / unit for value, unit in zip(scaled, self._UNITS, strict=True))
            held.add(min(negative, key=lambda i: scaled[i]))

    def _solve(self, held: set[int]) -> list[float]:
        """Gaussian elimination on three unknowns; those in `held` are 0, that is, minus their prior away from it."""
        prior = [value * unit for value, unit in zip(self.PRIOR, self._UNITS, strict=True)]
        delta = [-prior[i] if i in held else 0.0 for i in range(3)]
        free = [i for i in range(3) if i not in held]
        rows = [
            [self._squares[i][j] + (self._TRUST if i == j else 0.0) for j in free]
            + [self._products[i] - sum(self._squares[i][j] * delta[j] for j in held)]
            for i in free
        ]
        for k in range(len(free)):  # the matrix is positive definite: no pivoting needed
            for row in rows[k + 1 :]:
                factor = row[k] / rows[k][k]
                for column in range(k, len(row)):
                    row[column] -= factor * rows[k][column]
        for k in reversed(range(len(free))):
            known = sum(rows[k][m] * delta[free[m]] for m in range(k + 1, len(free)))
            delta[free[k]] = (rows[k][-1] - known) / rows[k][k]
        return [prior[i] + delta[i] for i in range(3)]


class TenantService:
    """Virtual token counters: how much each tenant has been served, in weighted tokens (Sheng et al., 2024, VTC).

    A tenant that comes back starts from the level of the least served one that is active: idling saves nothing up.
    """

    def __init__(self, config: SchedulerConfig) -> None:
        self._weights: Mapping[str, float] = parse_weights(config.tenant_weights)
        self.decode_cost = config.fair_decode_cost
        self._served: dict[str, float] = {}
        self._floor = 0.0

    def observe(self, report: StepReport) -> None:
        for item in report.work:
            cost = self.decode_cost if item.kind == "decode" else 1.0
            self._served[item.tenant] = self.level(item.tenant) + self.share(item.tenant, cost * item.served)
        for tenant in report.tenants:
            self._served[tenant] = self.level(tenant)
        active = frozenset(report.tenants)
        if active:
            self._floor = max(self._floor, min(self._served[tenant] for tenant in active))
        # Forgotten: whoever is idle and not above the floor. It comes back at the floor.
        self._served = {t: level for t, level in self._served.items() if t in active or level > self._floor}

    def level(self, tenant: str) -> float:
        """Weighted tokens served so far, never less than what the least served active tenant has had."""
        return self._served.get(tenant, self._floor)

    def share(self, tenant: str, tokens: float) -> float:
        """What `tokens` count for a tenant: a weight of 2 halves them."""
        return tokens / self._weights.get(tenant, 1.0)
