"""How much a tenant may ask for: a token bucket per minute, and how many requests at the same time."""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one tenant may use; None is no limit. Tokens are those of prompts and answers together."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None

    def __bool__(self) -> bool:
        return not (self.requests_per_minute is None and self.tokens_per_minute is None and self.concurrent is None)


class Bucket:
    """Fills evenly up to `capacity`, which a minute fills once: who was quiet may burst, and on average may not.

    The level may fall below zero, because what a request costs in tokens is known when it has ended; the debt is waited
    for. `now` is in seconds of a clock that never goes back.
    """

    def __init__(self, capacity: int, now: float) -> None:
        self.capacity = capacity
        self._level = float(capacity)
        self._at = now

    def level(self, now: float) -> float:
        """What may be taken now."""
        self._level = min(self.capacity, self._level + (now - self._at) * self.capacity / MINUTE)
        self._at = now
        return self._level

    def resize(self, capacity: int, now: float) -> None:
        """Another limit from now on; a fuller bucket than that is not kept."""
        self.level(now)
        self.capacity = capacity
        self._level = min(self._level, capacity)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`, whether or not there is as much."""
        self._level = self.level(now) - amount

    def seconds_until(self, amount: float, now: float) -> float:
        """How long until `amount` may be taken; 0 when it may be already."""
        return max(0.0, (min(amount, self.capacity) - self.level(now)) * MINUTE / self.capacity)


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit as a client sees it: of `limit` per minute `remaining` are left, and all of them in `reset` seconds."""

    limit: int
    remaining: int
    reset: float


def standing(bucket: Bucket, now: float) -> Standing:
    """Whole units only: half a request cannot be sent."""
    return Standing(bucket.capacity, max(0, math.floor(bucket.level(now))), bucket.seconds_until(bucket.capacity, now))
