"""Carries a policy's plans out: the queue, the running sequences and their blocks, without a model or a thread.

The engine calls `schedule`, lets the model compute, and calls `complete`; a simulator does the same with a clock of its own.
Whatever a policy plans, three things hold: no step exceeds the limits, every sequence ends exactly once, and there is
always progress. When the pool runs dry the policy's victims give their memory up and are recomputed later, but none more
than `max_preemptions` times; then the youngest go first. So the oldest keeps its memory in the end, and an empty pool is
large enough for any one sequence: the oldest always gets to its end.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Literal, NamedTuple

from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.events import Event, Finished, FinishReason, TokenLogprob, TokensGenerated
from serving.domain.media import up_to
from serving.domain.plan import Limits, SchedulerView, SequenceView, SequenceWork, StepPlan, StepReport, check
from serving.domain.policies import BatchingPolicy
from serving.domain.sequence import Sequence

HINTS = 64
"""Waiting sequences looked up in the prefix cache for a policy's view; the rest of a longer queue shows no hits yet."""


class Work(NamedTuple):
    """One sequence's share of the step to run: `count` tokens from position `start`; `samples` when that catches up.

    `drafts` are guesses of what follows, computed after those tokens in the same step. `ahead` are tokens that the model
    generates after the one that it samples, without coming back in between.
    """

    sequence: Sequence
    start: int
    count: int
    kind: Literal["prefill", "decode"]
    samples: bool
    drafts: tuple[int, ...] = ()
    ahead: int = 0

    @property
    def size(self) -> int:
        """Tokens that the model computes."""
        return self.count + len(self.drafts) + self.ahead


@dataclass(slots=True)
class Counters:
    """Totals since the start; they only grow."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    preemptions: int = 0
    drafts: int = 0  # steps of a sequence that came with guesses
    draft_tokens: int = 0
    accepted_tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)


class Scheduler:
    """Not thread-safe: belongs to the thread that steps.

    A running sequence that `rests` generates nothing, whatever the policy plans for it; it keeps its place and its memory. What has
    to be prefilled, after a preemption, is: prompts come first, and would wait for whoever reads.
    """

    def __init__(
        self, config: SchedulerConfig, policy: BatchingPolicy, pool: BlockPool, rests: Callable[[Sequence], bool] = lambda _: False
    ) -> None:
        self.policy = policy
        self.pool = pool
        self.limits = Limits(
            config.max_num_seqs,
            config.max_num_batched_tokens,
            config.prefill_chunk,
            pool.block_size,
            pool.total,
            config.step_pictures,
        )
        self.counters = Counters()
        self._rests = rests
        self._max_preemptions = config.max_preemptions
        self._steps = 0
        self._ended: list[int] = []  # answer lengths for the next report
        self._accepted: dict[str, int] = {}  # guesses that were right, for the next report
        self._tenants: Counter[str] = Counter()
        self._waiting: OrderedDict[str, Sequence] = OrderedDict()
        self._running: dict[str, Sequence] = {}
        self._queue: tuple[SequenceView, ...] | None = ()  # views of `_waiting`; None after it has changed
        self._deadlines: list[tuple[float, str]] = []

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    def add(self, sequence: Sequence) -> None:
        self._waiting[sequence.id] = sequence
        self._queue = None
        self._tenants[sequence.request.tenant] += 1
        if sequence.request.deadline is not None:
            heapq.heappush(self._deadlines, (sequence.request.deadline, sequence.id))

    def view(self) -> SchedulerView:
        """A snapshot for the policy. What only admission asks for is looked up only when somebody may be admitted."""
        if self._queue is None:
            self._queue = tuple(self._snapshot(s, 0) for s in self._waiting.values())
        waiting = self._queue
        admitting = bool(waiting) and len(self._running) < self.limits.max_num_seqs
        running = tuple(
            self._snapshot(s, len(self.pool.table(s.id)), self.pool.shared(s.id) if admitting else 0)
            for s in self._running.values()
        )
        if admitting:
            head = islice(zip(waiting, self._waiting.values(), strict=True), max(HINTS, self.limits.max_num_seqs))
            hinted = [(view, *self.pool.hint(sequence.chain)) for view, sequence in head]
            waiting = (
                *(view._replace(cached=cached, shared=shared) if cached else view for view, cached, shared in hinted),
                *waiting[len(hinted) :],
            )
        return SchedulerView(running, waiting, self.pool.available)

    def schedule(self, now: float) -> list[Work]:
        """Decide and reserve the next step; empty only when there is nothing to do, all rest, or the policy holds back.

        Raises PlanError, or whatever a policy raises; nothing has changed then.
        """
        for _ in range(self.num_running + 1):
            view = self.view()
            plan = self.policy.plan(view, self.limits, now)
            check(plan, view, self.limits)
            before = self.counters.preemptions
            work = self._apply(plan)
            # An empty step that only preempted would look like idling: plan again with the memory it freed.
            if work or self.counters.preemptions == before:
                return work
        return []

    def speculate(self, item: Work, drafts: Seq[int]) -> Work:
        """`item` with guesses to check in the same step; without them when their memory would have to be taken from somebody."""
        if not drafts or not self.pool.grow(item.sequence.id, item.start + item.count + len(drafts)):
            return item
        return item._replace(drafts=tuple(drafts))

    def go_ahead(self, work: list[Work], tokens: int) -> list[Work]:
        """`work` with so many tokens more for each; as it was when their memory would have to be taken from somebody."""
        for at, item in enumerate(work):
            if not self.pool.grow(item.sequence.id, item.start + item.count + tokens):
                for grown in work[:at]:
                    self.pool.trim(grown.sequence.id, grown.start + grown.count)
                return work
        return [item._replace(ahead=tokens) for item in work]

    def complete(self, work: Seq[Work], sampled: Seq[TokenLogprob | int]) -> list[Event]:
        """Book a step that ran. `sampled`: for each work that samples, in order, a token and one more for each of its drafts
        or tokens ahead, with log-probability or bare.
        """
        events: list[Event] = []
        tokens = iter(sampled)
        for item in work:
            sequence = item.sequence
            sequence.advance(item.count)
            if item.drafts or item.ahead:
                several = [next(tokens) for _ in range(1 + len(item.drafts) + item.ahead)]
                events += self._accept_drafts(item, several) if item.drafts else self._accept_ahead(item, several)
                continue
            self.pool.commit(sequence.id, sequence.computed)
            if item.samples:
                events += self._accept(sequence, next(tokens))
        return events

    def report(self, work: Seq[Work], start: float, duration: float) -> StepReport:
        """What a step did, once it is complete; times in seconds. The caller tells the policy (`policy.observe`)."""
        self._steps += 1
        ended, self._ended = self._ended, []
        shares = [
            SequenceWork(s.id, kind, count + ahead, at, samples, s.request.tenant, ahead=ahead)
            for s, at, count, kind, samples, _, ahead in work
        ]
        if self._accepted:
            shares = [self._with_drafts(share, item) for share, item in zip(shares, work, strict=True)]
            self._accepted.clear()
        return StepReport(
            step=self._steps,
            start=start,
            duration=duration,
            work=tuple(shares),
            waiting=self.num_waiting,
            running=self.num_running,
            kv_used=self.pool.used,
            kv_cached=self.pool.cached,
            kv_total=self.pool.total,
            preemptions=self.counters.preemptions,
            tenants=tuple(self._tenants),
            finished=tuple(ended),
            passes=1 + max((item.ahead for item in work), default=0),
        )

    def shrink(self, work: Seq[Work]) -> list[Work]:
        """Half of a step that ran out of memory, without guesses; no later step gets larger. Empty when it cannot get smaller.

        Decodes keep their token before prompts theirs, the older before the younger; who gets none is preempted.
        """
        budget = sum(item.size for item in work) // 2
        kept: list[Work] = []
        if not budget:
            return kept
        for item in sorted(work, key=lambda w: (w.count > 1, w.sequence.arrival, w.sequence.id)):
            if not budget:
                self._preempt(item.sequence.id)
                continue
            count = min(item.count, budget)
            kept.append(item._replace(count=count, samples=item.samples and count == item.count, drafts=(), ahead=0))
            budget -= count
        tokens = max(self.limits.max_num_seqs, sum(item.count for item in kept))
        self.limits = replace(self.limits, max_num_batched_tokens=min(tokens, self.limits.max_num_batched_tokens))
        return kept

    def finish(self, sequence_id: str, reason: FinishReason, error: str | None = None) -> list[Event]:
        """End a sequence at once and free its blocks; an empty list when it is unknown or has ended."""
        sequence = self._running.pop(sequence_id, None)
        if sequence is not None:
            self.pool.close(sequence_id)
        else:
            sequence = self._waiting.pop(sequence_id, None)
            self._queue = None
        if sequence is None:
            return []
        sequence.finish(reason)
        self.counters.finished[reason] += 1
        if reason in ("stop", "length"):
            self._ended.append(sequence.generated)
        tenant = sequence.request.tenant
        self._tenants[tenant] -= 1
        if not self._tenants[tenant]:
            del self._tenants[tenant]
        prompt = len(sequence.request.prompt_tokens)
        return [Finished(sequence_id, reason, prompt, sequence.generated, sequence.cached_tokens, error)]

    def expire(self, now: float) -> list[Event]:
        """End every sequence whose deadline has passed."""
        events: list[Event] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, sequence_id = heapq.heappop(self._deadlines)
            sequence = self._running.get(sequence_id) or self._waiting.get(sequence_id)
            if sequence is not None and sequence.request.deadline == deadline:  # else it ended, and another has its name
                events += self.finish(sequence_id, "error", "deadline_exceeded")
        return events

    def finish_all(self, reason: FinishReason, error: str | None = None) -> list[Event]:
        events: list[Event] = []
        for sequence_id in [*self._running, *self._waiting]:
            events += self.finish(sequence_id, reason, error)
        return events

    def restart_all(self) -> None:
        """Have everything recomputed, without old keys and values: the weights have changed."""
        for sequence_id in list(self._running):
            self._preempt(sequence_id)
        self.pool.forget()

    def _apply(self, plan: StepPlan) -> list[Work]:
        for sequence_id in plan.preempted:
            self._preempt(sequence_id)
        for sequence_id in plan.admitted:
            self._admit(sequence_id)
        work: dict[str, Work] = {}
        pictures = self.limits.step_pictures or math.inf
        for sequence_id, count in plan.work:
            sequence = self._running.get(sequence_id)
            if sequence is None:  # preempted a moment ago to make room for an earlier one
                continue
            count = min(count, sequence.remaining - self._rests(sequence))  # the last one would bring another token
            if not count:
                continue
            if sequence.request.media:
                stop, shown = up_to(sequence.request.media, sequence.computed, sequence.computed + count, pictures)
                count, pictures = stop - sequence.computed, pictures - shown
                if not count:  # its next picture waits for the next step
                    continue
            while not self.pool.grow(sequence_id, sequence.computed + count):
                victim = self._victim(plan.victims)
                work.pop(victim, None)
                self._preempt(victim)
                if victim == sequence_id:
                    break
            else:
                kind = "prefill" if sequence.prefilling else "decode"
                work[sequence_id] = Work(sequence, sequence.computed, count, kind, count == sequence.remaining)
        return list(work.values())

    def _victim(self, victims: Seq[str]) -> str:
        for sequence_id in victims:
            sequence = self._running.get(sequence_id)
            if sequence is not None and sequence.preemptions < self._max_preemptions:
                return sequence_id
        return max(self._running.values(), key=lambda s: (s.arrival, s.id)).id

    def _admit(self, sequence_id: str) -> None:
        sequence = self._waiting.pop(sequence_id)
        first = self._queue is not None and self._queue[0].id == sequence_id
        self._queue = self._queue[1:] if first else None  # a long queue is not looked at anew for each that leaves it in turn
        sequence.admit(self.pool.open(sequence_id, sequence.chain))
        self._running[sequence_id] = sequence
        if not sequence.preemptions:
            self.counters.prompt_tokens += sequence.target
            self.counters.cached_tokens += sequence.cached_tokens

    def _preempt(self, sequence_id: str) -> None:
        sequence = self._running.pop(sequence_id)
        self.pool.close(sequence_id)
        sequence.preempt()
        self._waiting[sequence_id] = sequence
        self._waiting.move_to_end(sequence_id, last=False)
        self._queue = None
        self.counters.preemptions += 1

    def _accept(self, sequence: Sequence, sampled: TokenLogprob | int) -> list[Event]:
        token = _token(sampled)
        length = sequence.target
        reason = sequence.append(token)
        events: list[Event] = []
        if sequence.target > length:
            self.counters.generated_tokens += 1
            logprobs = () if isinstance(sampled, int) else (sampled,)
            events.append(TokensGenerated(sequence.id, (token,), logprobs))
        return events + self.finish(sequence.id, reason) if reason else events

    def _accept_drafts(self, item: Work, sampled: Seq[TokenLogprob | int]) -> list[Event]:
        """Append what was sampled, up to the end of the answer or to the first token that was not guessed.

        What follows a wrong guess was computed from it and is dropped. A token that was guessed has its keys and values.
        """
        before = item.sequence.computed
        events = self._accept_several(item.sequence, item.drafts, sampled)
        right = self._accepted[item.sequence.id] = item.sequence.computed - before
        self.counters.drafts += 1
        self.counters.draft_tokens += len(item.drafts)
        self.counters.accepted_tokens += right
        return events

    def _accept_ahead(self, item: Work, sampled: Seq[TokenLogprob | int]) -> list[Event]:
        """Append what was generated, up to the end of the answer: each token was computed from the one before it."""
        return self._accept_several(item.sequence, [_token(one) for one in sampled[:-1]], sampled)

    def _accept_several(self, sequence: Sequence, computed: Seq[int], sampled: Seq[TokenLogprob | int]) -> list[Event]:
        """`computed` are the tokens from which the second of `sampled` and all after it come."""
        length, reason = sequence.target, None
        for choice, known in zip(sampled, (*computed, None), strict=True):
            token = _token(choice)
            reason = sequence.append(token)
            if reason or token != known:
                break
            sequence.advance(1)
        self.pool.commit(sequence.id, sequence.computed)
        self.pool.trim(sequence.id, sequence.target)  # everybody is left the memory that they had without
        tokens = tuple(sequence.tokens[length:])
        self.counters.generated_tokens += len(tokens)
        events: list[Event] = []
        if tokens:
            logprobs = () if isinstance(sampled[0], int) else tuple(sampled[: len(tokens)])
            events.append(TokensGenerated(sequence.id, tokens, logprobs))
        return events + self.finish(sequence.id, reason) if reason else events

    def _with_drafts(self, share: SequenceWork, item: Work) -> SequenceWork:
        if not item.drafts:
            return share
        return share._replace(tokens=item.size, drafted=len(item.drafts), accepted=self._accepted[share.id])

    @staticmethod
    def _snapshot(sequence: Sequence, blocks: int, shared: int = 0) -> SequenceView:
        request = sequence.request
        return SequenceView(
            id=sequence.id,
            arrival=sequence.arrival,
            priority=request.priority,
            tenant=request.tenant,
            deadline=request.deadline,
            prompt_tokens=len(request.prompt_tokens),
            max_tokens=request.sampling.max_tokens,
            generated=sequence.generated,
            computed=sequence.computed,
            target=len(sequence.tokens),
            blocks=blocks,
            cached=0,
            shared=shared,
            preemptions=sequence.preemptions,
        )


def _token(sampled: TokenLogprob | int) -> int:
    return sampled if isinstance(sampled, int) else sampled.token
