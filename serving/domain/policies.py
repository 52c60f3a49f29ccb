"""Batching policies: which sequences compute how many tokens in the next step.

A policy is a pure function of a snapshot: `plan(view, limits, now) -> StepPlan`. It never mutates anything, so the same
object runs in the engine, in a test and in a simulator. The ones here are compositions of two small strategies, an
`AdmissionRule` (who may join) and a `Composer` (who computes how much); register your own class or factory under the entry
point group `serving.policies` and it is found by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Protocol

from serving.domain.plan import Limits, SchedulerView, SequenceView, StepPlan, StepReport
from serving.domain.strategies import (
    AdmissionRule,
    Composer,
    FitTheBudget,
    Joined,
    OneAtATime,
    Order,
    PrefillFirst,
    WhenEmpty,
    by_arrival,
)

GROUP = "serving.policies"


class BatchingPolicy(Protocol):
    """Decides every step. `plan` must not mutate; what a policy learns it learns in `observe`."""

    name: str

    def plan(self, view: SchedulerView, limits: Limits, now: float) -> StepPlan: ...

    def observe(self, report: StepReport) -> None: ...


@dataclass(frozen=True)
class ComposedPolicy:
    """A policy made of strategies: order the queue, admit from its head, share the step's tokens out."""

    name: str
    admission: AdmissionRule
    composer: Composer
    order: Order = by_arrival

    def plan(self, view: SchedulerView, limits: Limits, now: float) -> StepPlan:
        """The next step. An admitted sequence may have to wait for its first tokens until the budget reaches it."""
        admitted: Sequence[SequenceView] = ()
        if view.waiting and len(view.running) < limits.max_num_seqs:
            admitted = self.admission.admit(view, self.order(view.waiting, now), limits)
        return StepPlan(
            work=self.composer.compose((*view.running, *admitted), limits),
            admitted=tuple(sequence.id for sequence in admitted),
        )

    def observe(self, report: StepReport) -> None:
        """Nothing to learn."""


def static() -> ComposedPolicy:
    """Fill a batch, run it until its last member is done, then fill the next."""
    return ComposedPolicy("static", WhenEmpty(), PrefillFirst())


def continuous() -> ComposedPolicy:
    """A place that falls free is taken at once, by one prompt at a time; the others decode along."""
    return ComposedPolicy("continuous", OneAtATime(), Joined())


def continuous_batched_prefill() -> ComposedPolicy:
    """All waiting prompts that fit into a step are prefilled together; decodes wait for that step."""
    return ComposedPolicy("continuous-batched-prefill", FitTheBudget(), PrefillFirst())


BUILTIN: dict[str, Callable[[], BatchingPolicy]] = {
    "static": static,
    "continuous": continuous,
    "continuous-batched-prefill": continuous_batched_prefill,
}


class UnknownPolicy(ValueError):
    """No policy of that name; the message lists those there are."""


def policy_names() -> list[str]:
    """Every policy that `make_policy` knows, own and third-party."""
    return sorted({*BUILTIN, *(entry.name for entry in entry_points(group=GROUP))})


def make_policy(name: str) -> BatchingPolicy:
    """A fresh policy by name. Raises UnknownPolicy."""
    if name in BUILTIN:
        return BUILTIN[name]()
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()()
    close = difflib.get_close_matches(name, policy_names(), n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    raise UnknownPolicy(f'unknown policy "{name}": choose one of {", ".join(policy_names())}.{hint}')
