"""Batching policies: which sequences compute how many tokens in the next step.

A policy is a pure function of a snapshot and of what it has learned: `plan(view, limits, now) -> StepPlan`. It never
mutates anything, so the same object runs in the engine, in a test and in a simulator; what it learns it learns in
`observe`. The eight presets are compositions of four one-method strategies (`serving.domain.strategies`). Register a
factory of your own, `SchedulerConfig -> BatchingPolicy`, under the entry point group `serving.policies`, and it is found by
name.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol

from serving.domain.admission import FitTheBudget, OneAtATime, PeakMemory, WhenEmpty, WhileTokensLast
from serving.domain.composers import Joined, Paced, PrefillFirst, split
from serving.domain.config import SchedulerConfig
from serving.domain.errors import InvalidRequest
from serving.domain.learning import Learner, OutputLengths, StepTime, TenantService
from serving.domain.orders import ByArrival, ByPriority, ByResponseRatio, BySlack, LeastServedTenant
from serving.domain.plan import Limits, SchedulerView, SequenceView, StepPlan, StepReport
from serving.domain.strategies import AdmissionRule, Composer, Order, Victim
from serving.domain.victims import LastInOrder, LeastComputed, Youngest

POLICY_GROUP = "serving.policies"


class BatchingPolicy(Protocol):
    """Decides every step. `plan` must not mutate; what a policy learns it learns in `observe`."""

    name: str

    def plan(self, view: SchedulerView, limits: Limits, now: float) -> StepPlan: ...

    def observe(self, report: StepReport) -> None: ...


Factory = Callable[[SchedulerConfig], BatchingPolicy]


@dataclass(frozen=True)
class ComposedPolicy:
    """A policy made of strategies: order the queue, admit from its head, share the step's tokens out, name victims."""

    name: str
    order: Order
    admission: AdmissionRule
    composer: Composer
    victim: Victim
    learners: tuple[Learner, ...] = ()

    def plan(self, view: SchedulerView, limits: Limits, now: float) -> StepPlan:
        admitted: Sequence[SequenceView] = ()
        if view.waiting and len(view.running) < limits.max_num_seqs:
            admitted = self.admission.admit(view, self.order.order(view.waiting, now), limits)
        members = (*view.running, *admitted)
        decodes, prompts = split(members)
        if len(prompts) > 1:  # decodes all get their token: only prompts compete
            prompts = self.order.order(prompts, now)
        work = self.composer.compose(decodes, prompts, limits)
        return StepPlan(
            work=work,
            admitted=tuple(sequence.id for sequence in admitted),
            victims=tuple(self.victim.victims(members, now)) if self._may_run_dry(view, work, admitted, limits) else (),
        )

    def observe(self, report: StepReport) -> None:
        for learner in self.learners:
            learner.observe(report)

    @staticmethod
    def _may_run_dry(
        view: SchedulerView, work: Sequence[tuple[str, int]], admitted: Sequence[SequenceView], limits: Limits
    ) -> bool:
        """Whether the step could need more blocks than there are; nearly always it cannot, and nobody is sorted."""
        most = sum(1 + count // limits.block_size for _, count in work)
        return view.available_blocks < most + sum(s.cached // limits.block_size for s in admitted)


def static(config: SchedulerConfig) -> ComposedPolicy:
    """Fill a batch, run it until its last member is done, then fill the next."""
    memory, lengths = _memory(config)
    order = ByArrival()
    return ComposedPolicy("static", order, WhenEmpty(memory), PrefillFirst(), _victim(config, Youngest()), (lengths,))


def continuous(config: SchedulerConfig) -> ComposedPolicy:
    """A place that falls free is taken at once, by one prompt at a time; the others decode along."""
    memory, lengths = _memory(config)
    order = ByArrival()
    return ComposedPolicy("continuous", order, OneAtATime(memory), Joined(), _victim(config, Youngest()), (lengths,))


def continuous_batched_prefill(config: SchedulerConfig) -> ComposedPolicy:
    """All waiting prompts that fit into a step are prefilled together; decodes wait for that step."""
    memory, lengths = _memory(config)
    name, order, victim = "continuous-batched-prefill", ByArrival(), _victim(config, Youngest())
    return ComposedPolicy(name, order, FitTheBudget(memory), PrefillFirst(), victim, (lengths,))


def mixed_chunked(config: SchedulerConfig) -> ComposedPolicy:
    """Decodes always get their token; prompts share the rest of every step in chunks. The default."""
    memory, lengths = _memory(config)
    return _mixed("mixed-chunked", config, ByArrival(), memory, _victim(config, Youngest()), (lengths,))


def priority(config: SchedulerConfig) -> ComposedPolicy:
    """The smallest `priority` first, ageing with waiting; the least important gives its memory up first."""
    memory, lengths = _memory(config)
    order = ByPriority(config.ageing_rate)
    return _mixed("priority", config, order, memory, _victim(config, LastInOrder(order)), (lengths,))


def sjf(config: SchedulerConfig) -> ComposedPolicy:
    """Shortest job first, tempered: the highest response ratio next; a cached prefix makes a job shorter."""
    memory, lengths = _memory(config)
    time = StepTime()
    order = ByResponseRatio(lengths, time)
    return _mixed("sjf", config, order, memory, _victim(config, Youngest()), (lengths, time))


def fair(config: SchedulerConfig) -> ComposedPolicy:
    """The tenant that was served least comes next, in tokens and by weight, however many requests others send."""
    memory, lengths = _memory(config)
    service = TenantService(config)
    order = LeastServedTenant(service, lengths)
    return _mixed("fair", config, order, memory, _victim(config, LastInOrder(order)), (lengths, service))


def slo(config: SchedulerConfig) -> ComposedPolicy:
    """The least time to spare first; prompts join a step only as far as everybody's next token stays on time."""
    memory, lengths = _memory(config)
    time = StepTime()
    order = BySlack(lengths, time, ttft=config.slo_ttft, tpot=config.slo_tpot, patience=config.slo_patience)
    composer = Paced(time, config.slo_tpot)
    victim = _victim(config, LastInOrder(order))
    return ComposedPolicy("slo", order, WhileTokensLast(memory, composer), composer, victim, (lengths, time))


BUILTIN: dict[str, Factory] = {
    "static": static,
    "continuous": continuous,
    "continuous-batched-prefill": continuous_batched_prefill,
    "mixed-chunked": mixed_chunked,
    "priority": priority,
    "sjf": sjf,
    "fair": fair,
    "slo": slo,
}


class UnknownPolicy(InvalidRequest, ValueError):
    """No policy of that name, or one that cannot be loaded; the message lists those there are."""

    code = "unknown_policy"


def policy_names() -> list[str]:
    """Every policy that `make_policy` knows, own and third-party."""
    return [*BUILTIN, *sorted({entry.name for entry in entry_points(group=POLICY_GROUP)} - BUILTIN.keys())]


def make_policy(name: str, config: SchedulerConfig | None = None) -> BatchingPolicy:
    """A fresh policy by name, with the knobs of `config`. Raises UnknownPolicy."""
    config = config or SchedulerConfig()
    if name in BUILTIN:
        return BUILTIN[name](config)
    for entry in entry_points(group=POLICY_GROUP, name=name):
        return _load(entry, config)
    close = difflib.get_close_matches(name, policy_names(), n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    raise UnknownPolicy(f'unknown policy "{name}": choose one of {", ".join(policy_names())}.{hint}', param="policy")


def _load(entry: EntryPoint, config: SchedulerConfig) -> BatchingPolicy:
    """A third party's policy, which may fail in any way."""
    where = f'policy "{entry.name}", installed as {entry.value},'
    try:
        policy = entry.load()(config)
    except Exception as error:
        message = f"{where} cannot be made: {type(error).__name__}: {error}"
        raise UnknownPolicy(message, param="policy") from error
    if missing := [part for part in ("name", "plan", "observe") if not hasattr(policy, part)]:
        raise UnknownPolicy(f"{where} is no policy: it has no {' and no '.join(missing)}", param="policy")
    return policy


def _memory(config: SchedulerConfig) -> tuple[PeakMemory, OutputLengths]:
    lengths = OutputLengths(config)
    return PeakMemory(config, lengths), lengths


def _mixed(
    name: str,
    config: SchedulerConfig,
    order: Order,
    memory: PeakMemory,
    victim: Victim,
    learners: tuple[Learner, ...],
) -> ComposedPolicy:
    composer = Joined(config.mixed_prefill_tokens)
    return ComposedPolicy(name, order, WhileTokensLast(memory, composer), composer, victim, learners)


def _victim(config: SchedulerConfig, own: Victim) -> Victim:
    return {"policy": own, "youngest": Youngest(), "least-computed": LeastComputed()}[config.victims]
