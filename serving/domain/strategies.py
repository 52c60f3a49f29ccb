"""The four questions that a policy answers, each a protocol with one method. All of them see immutable snapshots only.

Order: who comes first? AdmissionRule: who may join now? Composer: who computes how much in this step? Victim: who gives
memory up when the pool runs dry? Answers are in `orders`, `admission`, `composers` and `victims`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from serving.domain.plan import Limits, SchedulerView, SequenceView


class Order(Protocol):
    """Sorts the queue, and the running prompts that compete for a step's tokens."""

    def order(self, sequences: Sequence[SequenceView], now: float) -> Sequence[SequenceView]: ...


class AdmissionRule(Protocol):
    """Chooses from the head of an ordered queue those that join the running sequences now."""

    def admit(self, view: SchedulerView, queue: Sequence[SequenceView], limits: Limits) -> Sequence[SequenceView]: ...


class Composer(Protocol):
    """Shares one step's tokens out among decodes, which want one each, and prompts: (id, tokens), memory in that order."""

    def compose(
        self, decodes: Sequence[SequenceView], prompts: Sequence[SequenceView], limits: Limits
    ) -> tuple[tuple[str, int], ...]: ...


class Victim(Protocol):
    """Ids of running sequences in the order in which they give memory up."""

    def victims(self, running: Sequence[SequenceView], now: float) -> Sequence[str]: ...
