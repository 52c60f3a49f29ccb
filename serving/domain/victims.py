"""Who gives memory up when the pool runs dry, to be recomputed later."""

from __future__ import annotations

from collections.abc import Sequence

from serving.domain.plan import SequenceView
from serving.domain.strategies import Order


class Youngest:
    """The last to come is the first to go."""

    def victims(self, running: Sequence[SequenceView], now: float) -> Sequence[str]:
        return [s.id for s in sorted(running, key=lambda s: (s.arrival, s.id), reverse=True)]


class LeastComputed:
    """Those go first that cost least to recompute."""

    def victims(self, running: Sequence[SequenceView], now: float) -> Sequence[str]:
        return [s.id for s in sorted(running, key=lambda s: (s.computed, -s.arrival))]


class LastInOrder:
    """Whoever the policy would serve last goes first."""

    def __init__(self, order: Order) -> None:
        self._order = order

    def victims(self, running: Sequence[SequenceView], now: float) -> Sequence[str]:
        return [s.id for s in reversed(self._order.order(running, now))]
