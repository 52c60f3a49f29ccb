"""Holds tenants to their limits. Whoever is admitted gets a lease and gives it back however the request ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from serving.domain.errors import RateLimited
from serving.domain.quota import Bucket, Limits, Standing, standing

CONCURRENT_RETRY_SECONDS = 1.0  # when one of a tenant's own requests ends, nobody knows


class Lease:
    """A place among a tenant's requests. `release` it exactly when the request has ended; more often does no harm."""

    def __init__(self, release: Callable[[int], None], standings: dict[str, Standing]) -> None:
        self.standings = standings
        self._release = release
        self._usage: list[Callable[[], int]] = []
        self._lock = threading.Lock()
        self._released = False

    def charge(self, tokens: Callable[[], int]) -> None:
        """What the request has cost is asked for at its end."""
        self._usage.append(tokens)

    def release(self) -> int:
        """The tokens that the request has cost; 0 from the second time on."""
        with self._lock:
            if self._released:
                return 0
            self._released = True
        cost = sum(tokens() for tokens in self._usage)
        self._release(cost)
        return cost


class _Account:
    """What one tenant has in use. Not locked: `Limiter` does that."""

    def __init__(self) -> None:
        self.running = 0
        self.buckets: dict[str, Bucket] = {}

    def fit(self, limits: Limits, now: float) -> None:
        """Limits may have changed since the last request."""
        for name, capacity in (("requests", limits.requests_per_minute), ("tokens", limits.tokens_per_minute)):
            if capacity is None:
                self.buckets.pop(name, None)
            elif name not in self.buckets:
                self.buckets[name] = Bucket(capacity, now)
            elif self.buckets[name].capacity != capacity:
                self.buckets[name].resize(capacity, now)

    def standings(self, now: float) -> dict[str, Standing]:
        return {name: standing(bucket, now) for name, bucket in self.buckets.items()}


class Limiter:
    """One per server; safe from any thread. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def admit(self, tenant: str, limits: Limits) -> Lease:
        """Count one request in. Raises `RateLimited`, and then nothing has been counted.

        A tenant with tokens left may send a request however much it will cost: that is taken off at its end.
        """
        if not limits:
            return Lease(lambda tokens: None, {})
        with self._lock:
            now = self._clock()
            account = self._accounts.setdefault(tenant, _Account())
            account.fit(limits, now)
            self._check(tenant, account, limits, now)
            if (requests := account.buckets.get("requests")) is not None:
                requests.take(1, now)
            account.running += 1
            return Lease(lambda tokens: self._end(account, tokens), account.standings(now))

    def running(self, tenant: str) -> int:
        """How many requests of a tenant with limits are on their way."""
        with self._lock:
            return self._accounts[tenant].running if tenant in self._accounts else 0

    def _check(self, tenant: str, account: _Account, limits: Limits, now: float) -> None:
        if limits.concurrent is not None and account.running >= limits.concurrent:
            raise RateLimited(
                f'tenant "{tenant}" has {account.running} requests running, and may have {limits.concurrent} at the '
                "same time: wait for one of them to end",
                code="concurrency_limit_exceeded",
                retry_after=CONCURRENT_RETRY_SECONDS,
                standings=account.standings(now),
            )
        for name, bucket in account.buckets.items():
            if wait := bucket.seconds_until(1, now):
                raise RateLimited(
                    f'tenant "{tenant}" has used up its {bucket.capacity} {name} a minute: try again in {wait:.1f} s',
                    code=f"{name}_limit_exceeded",
                    retry_after=wait,
                    standings=account.standings(now),
                )

    def _end(self, account: _Account, tokens: int) -> None:
        with self._lock:
            account.running -= 1
            if (bucket := account.buckets.get("tokens")) is not None:
                bucket.take(tokens, self._clock())
