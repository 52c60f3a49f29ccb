"""What a policy sees, what it answers, and what it is told afterwards. All of it immutable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class SequenceView(NamedTuple):
    """One sequence as a policy sees it. A tuple rather than a dataclass because every step makes one per sequence."""

    id: str
    arrival: float
    priority: int
    tenant: str
    deadline: float | None
    prompt_tokens: int
    max_tokens: int
    generated: int
    computed: int
    target: int
    blocks: int
    """Blocks in its table, shared ones included."""
    cached: int
    """Waiting only: tokens that the prefix cache would spare. A hint: the cache may change before admission."""
    shared: int
    """Blocks that others hold too and that cost it no memory. Looked up only while somebody waits for admission."""
    preemptions: int = 0

    @property
    def remaining(self) -> int:
        """Tokens to compute before the next one can be sampled."""
        return self.target - max(self.computed, self.cached)

    @property
    def prefilling(self) -> bool:
        """False for a decode: a sequence that lacks only its newest token."""
        return self.generated == 0 or self.remaining > 1


@dataclass(frozen=True, slots=True)
class Limits:
    """What no step may exceed. Only running out of memory changes it while an engine lives: the budget shrinks."""

    max_num_seqs: int
    max_num_batched_tokens: int
    prefill_chunk: int
    block_size: int
    total_blocks: int
    step_pictures: int = 0
    """Pictures that one step shows the model at most, however many tokens a policy hands out; 0: no limit."""

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)


@dataclass(frozen=True, slots=True)
class SchedulerView:
    """The engine between two steps. `running` in order of admission; `waiting` in queue order, preempted ones first."""

    running: tuple[SequenceView, ...]
    waiting: tuple[SequenceView, ...]
    available_blocks: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A policy's answer: (sequence id, tokens to compute) for the next step; earlier entries get memory first.

    `admitted` are the waiting sequences among them. `preempted` give their memory up before the step. `victims` are those
    to preempt, in this order, if the pool runs dry all the same; after them the youngest go first.
    """

    work: tuple[tuple[str, int], ...] = ()
    admitted: tuple[str, ...] = ()
    preempted: tuple[str, ...] = ()
    victims: tuple[str, ...] = ()


class PlanError(Exception):
    """A policy planned something that cannot be done; the message says what."""


def check(plan: StepPlan, view: SchedulerView, limits: Limits) -> None:
    """Raise PlanError unless `plan` keeps every limit and names only sequences that exist."""
    running = {sequence.id for sequence in view.running}
    waiting = {sequence.id for sequence in view.waiting}
    worked = [sequence_id for sequence_id, _ in plan.work]
    if len(set(worked)) != len(worked):
        raise PlanError("a sequence appears twice in one step")
    if not set(plan.admitted) <= waiting or not set(plan.preempted) <= running:
        raise PlanError("admitted sequences must be waiting and preempted ones running")
    if stray := set(worked) - (running - set(plan.preempted)) - set(plan.admitted):
        raise PlanError(f"work for sequences that do not run: {sorted(stray)}")
    if any(count < 1 for _, count in plan.work):
        raise PlanError("work of less than one token")
    if (tokens := sum(count for _, count in plan.work)) > limits.max_num_batched_tokens:
        raise PlanError(f"{tokens} tokens in one step, {limits.max_num_batched_tokens} allowed")
    if (seqs := len(running) - len(plan.preempted) + len(plan.admitted)) > limits.max_num_seqs:
        raise PlanError(f"{seqs} sequences running, {limits.max_num_seqs} allowed")


class SequenceWork(NamedTuple):
    """One sequence's share of a step that ran."""

    id: str
    kind: Literal["prefill", "decode"]
    tokens: int
    """Computed in this step, guesses included."""
    start: int
    """Tokens that were computed before."""
    samples: bool
    """Whether the step ended with a new token for it, or with one after each pass."""
    tenant: str = "default"
    drafted: int = 0
    """Guesses among the tokens."""
    accepted: int = 0
    """Guesses that were right, each of which is one more new token."""
    ahead: int = 0
    """Tokens that followed in further passes of the same step."""

    @property
    def produced(self) -> int:
        """New tokens of its answer; some of those ahead may lie beyond its end."""
        return 1 + self.accepted + self.ahead if self.samples else 0

    @property
    def kv_tokens(self) -> int:
        """Positions whose keys and values were read."""
        return self.start + self.tokens

    @property
    def served(self) -> int:
        """Tokens that it has something of: wrong guesses do not count."""
        return self.tokens - self.drafted + self.accepted


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step as it happened; times in seconds of the engine's monotonic clock. For policies, charts and metrics."""

    step: int
    start: float
    duration: float
    work: tuple[SequenceWork, ...]
    waiting: int
    running: int
    kv_used: int
    kv_cached: int
    kv_total: int
    preemptions: int
    """Since the engine started."""
    tenants: tuple[str, ...] = ()
    """Everybody with a request in the engine, running or waiting, once each."""
    finished: tuple[int, ...] = ()
    """Answer lengths in tokens of the requests that came to their own end since the report before."""
    passes: int = 1
    """How often the model ran in it; more than once when nobody waited and every decode went on by itself."""

    @property
    def tokens(self) -> int:
        """Tokens computed, prompts and decodes together."""
        return sum(item.tokens for item in self.work)

    @property
    def kv_tokens(self) -> int:
        """Positions whose keys and values were read, over all sequences."""
        return sum(item.kv_tokens for item in self.work)
