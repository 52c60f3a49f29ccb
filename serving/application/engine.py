"""The engine: one thread that turns submitted requests into tokens, one packed step after the other.

    drain commands -> expire deadlines -> scheduler (policy, blocks) -> backend and sampler -> events into mailboxes

With a `drafter`, decodes get guesses to check between the scheduler and the backend (`speculation`).

Everything the thread owns (scheduler, pool, backend) is touched by no other thread: commands are closures that it runs
between two steps. Clients only ever see their `Mailbox`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from serving.application.adapters import AdapterUse
from serving.application.constraints import Constraints, GrammarCompiler, Matcher
from serving.application.execution import StepRunner
from serving.application.limits import check_request
from serving.application.mailbox import Mailbox
from serving.application.multi_step import MultiStep
from serving.application.observing import Observation, Observer
from serving.application.ports import Drafter, EngineStats, ModelBackend, RunningRequest, Sampler
from serving.application.speculation import Speculation
from serving.domain.blocks import BlockMap, BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.errors import Conflict, Draining, InvalidRequest, QueueFull
from serving.domain.events import Event, Finished
from serving.domain.policies import make_policy
from serving.domain.request import Request
from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence as RunningSequence

log = logging.getLogger(__name__)

FALLBACK_POLICY = "mixed-chunked"
ADAPTER_SECONDS = 600.0  # a few forwards of the model, and it may be a large one
HELD_BACK = 0.01  # seconds to wait for a command when nothing is computed although there is work


class EngineLoop:
    """An `EnginePort` in a thread of this process.

    `observer` is told on the engine's thread about every request that comes in (its arrival filled in), every step, and
    every end; the ends that a step brings come before its report. `delivered` is called there when events are in mailboxes.
    """

    def __init__(
        self,
        backend: ModelBackend,
        sampler: Sampler,
        config: SchedulerConfig,
        *,
        context_length: int,
        drafter: Drafter | None = None,
        grammars: GrammarCompiler | None = None,
        observer: Observer | None = None,
        delivered: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._config = config
        self._context_length = context_length
        self._observer = observer
        self._delivered = delivered
        self._clock = clock
        self._pool = BlockPool(
            backend.num_blocks,
            backend.block_size,
            prefix_caching=config.prefix_caching and backend.shares_prefixes,
            on_close=self._release,
        )
        self._scheduler = Scheduler(config, make_policy(config.policy, config), self._pool, self._rests)
        self._grammars = grammars
        self._constraints = Constraints()
        self._runner = StepRunner(backend, sampler, self._scheduler, self._constraints)
        self._speculation = (
            None if drafter is None else Speculation(drafter, self._scheduler, config, self._constraints, self._room)
        )
        self._multi_step = MultiStep(self._scheduler, config.multi_step_seconds if backend.goes_ahead else 0.0, self._room)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._mailboxes: dict[str, Mailbox] = {}  # submitted and not finished; guarded by _lock
        self._adapters = AdapterUse()  # guarded by _lock
        self._sequences: dict[str, RunningSequence] = {}  # those of the mailboxes
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._draining = self._closed = self._paused = False
        self._steps = 0
        self._step_seconds = self._scheduling_seconds = 0.0
        self._request_seconds = 1.0  # moving average of a request's time in the engine
        self._started = self._progress = clock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> EngineLoop:
        """Start the thread; call it after a fork, never before."""
        self._thread.start()
        return self

    # -- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Mailbox:
        """Queue a request; its grammar is compiled here, on the caller's thread.

        Raises InvalidRequest, ContextLengthExceeded, ModelNotFound (its adapter has gone), QueueFull or Draining.
        """
        capacity = min(self._context_length, self._pool.total * self._pool.block_size)
        check_request(request, vocab_size=self._backend.vocab_size, capacity=capacity)
        matcher = self._matcher(request)
        now = self._clock()
        sequence = self._sequence(request, now)
        mailbox = Mailbox(request.id, self._config.mailbox_tokens, self.cancel, opened=now)
        with self._lock:
            if self._draining or self._closed:
                raise Draining("this model is being shut down and takes no new requests")
            if request.id in self._mailboxes:
                raise InvalidRequest(f'request id "{request.id}" is in use', param="id")
            if len(self._mailboxes) >= self._config.max_num_seqs + self._config.queue_limit:
                raise QueueFull(
                    f"{len(self._mailboxes)} requests are running or waiting already; try again later",
                    retry_after=max(1.0, min(60.0, self._request_seconds)),  # by then all of them have made room
                )
            self._adapters.begin(request)
            if not self._mailboxes:
                self._progress = now
            self._mailboxes[request.id] = mailbox
            self._sequences[request.id] = sequence
            # Inside the lock, or a loop that ends right now would miss the request.
            self._commands.put(lambda: self._enqueue(sequence, matcher))
        return mailbox

    def cancel(self, request_id: str, why: str | None = None) -> None:
        """End a request with reason "cancelled"; unknown and finished ids are ignored."""
        self._commands.put(lambda: self._deliver(self._scheduler.finish(request_id, "cancelled", why)))

    def unfinished(self) -> list[RunningRequest]:
        now = self._clock()
        with self._lock:
            sequences = list(self._sequences.values())
        return [
            RunningRequest(
                id=sequence.id,
                tenant=sequence.request.tenant,
                state=sequence.state.value,
                prompt_tokens=len(sequence.request.prompt_tokens),
                generated_tokens=sequence.generated,
                max_tokens=sequence.request.sampling.max_tokens,
                priority=sequence.request.priority,
                age=now - sequence.arrival,
            )
            for sequence in sorted(sequences, key=lambda one: one.arrival)
        ]

    def call(self, function: Callable[[], Any], timeout: float | None = 60.0) -> Any:
        """Run `function` on the engine's thread between two steps and return its result."""
        future: Future[Any] = Future()

        def command() -> None:
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)

        with self._lock:
            if self._closed:
                raise Draining("the engine is closed")
            self._commands.put(command)
        return future.result(timeout)

    def pause(self) -> None:
        """Finish the current step and run no further one until `resume`; requests keep queueing up."""
        self.call(lambda: setattr(self, "_paused", True))

    def resume(self) -> None:
        def go_on() -> None:
            self._paused = False
            self._progress = self._clock()

        self.call(go_on)

    def swap_policy(self, name: str) -> None:
        """Change the batching policy between two steps; nothing is lost. Raises UnknownPolicy."""
        policy = make_policy(name, self._config)
        self.call(lambda: setattr(self._scheduler, "policy", policy))

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Replace the model's parameters between two steps; running requests go on with the new ones, recomputed."""

        def swap() -> None:
            self._scheduler.restart_all()
            self._backend.update_weights(state_dict)

        self.call(swap)

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """Requests may name the adapter from now on; others go on meanwhile. Raises LifecycleError when it does not fit."""
        if not self._backend.takes_adapters:
            raise Conflict(
                "this model is computed by kernels that apply no adapters: load it again with adapters allowed "
                '(--set adapters=true, or "adapters": true when it is loaded over HTTP)'
            )
        self.call(lambda: self._backend.add_adapter(adapter_id, weights), timeout=ADAPTER_SECONDS)
        with self._lock:
            self._adapters.add(adapter_id)

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        """Refuse new requests that name it, wait for the others, cancel those that take longer; True when none did.

        One that is not there has gone already.
        """
        with self._lock:
            if adapter_id not in self._adapters:
                return True
            users = self._adapters.leave(adapter_id)
            in_time = self._idle.wait_for(lambda: not users, timeout)
            late = list(users)
        for request_id in late:
            self.cancel(request_id)
        # Commands run in order: when this one does, the late ones have ended.
        self.call(lambda: self._backend.remove_adapter(adapter_id))
        with self._lock:
            self._adapters.forget(adapter_id)
        return in_time

    def stats(self) -> EngineStats:
        scheduler, counters = self._scheduler, self._scheduler.counters
        return EngineStats(
            policy=scheduler.policy.name,
            waiting=scheduler.num_waiting,
            running=scheduler.num_running,
            kv_used=self._pool.used,
            kv_cached=self._pool.cached,
            kv_total=self._pool.total,
            block_size=self._pool.block_size,
            steps=self._steps,
            prompt_tokens=counters.prompt_tokens,
            generated_tokens=counters.generated_tokens,
            cached_tokens=counters.cached_tokens,
            preemptions=counters.preemptions,
            finished=dict(counters.finished),
            step_seconds=self._step_seconds,
            uptime=self._clock() - self._started,
            drafts=counters.drafts,
            draft_tokens=counters.draft_tokens,
            accepted_tokens=counters.accepted_tokens,
            parts=self._parts(),
            grammar_requests=0 if self._grammars is None else self._grammars.requests,
            grammar_compile_seconds=0.0 if self._grammars is None else self._grammars.seconds,
        )

    def _parts(self) -> dict[str, float]:
        """Where the time of all steps went, from the decision what to compute to the last mailbox."""
        model, sampling = self._runner.seconds["model"], self._runner.seconds["sampling"]
        masks = self._constraints.seconds
        inside = {f"model: {name}": seconds for name, seconds in self._backend.seconds().items()}
        return {
            "scheduling": self._scheduling_seconds,
            **inside,
            "model: rest" if inside else "model": model - sum(inside.values()),
            "grammar masks": masks,
            "sampling": sampling,
            "bookkeeping": self._step_seconds - self._scheduling_seconds - model - masks - sampling,
        }

    def block_map(self) -> BlockMap:
        return self.call(self._pool.map, timeout=0.5)

    def healthy(self) -> bool:
        """False when the thread is dead, or work has waited `stall_seconds` without a finished step."""
        stalled = self._clock() - self._progress > self._config.stall_seconds
        return self._thread.is_alive() and not (self._mailboxes and stalled and not self._paused)

    def drain(self, timeout: float) -> bool:
        """Refuse new requests and wait for the others; True when all of them finished in time."""
        with self._lock:
            self._draining = True
            return self._idle.wait_for(lambda: not self._mailboxes, timeout)

    def close(self) -> None:
        """Stop the thread; whatever still runs ends as "cancelled". Safe more than once, and if never started."""
        with self._lock:
            self._closed = True
        self._commands.put(lambda: None)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()
        elif not self._thread.is_alive():
            self._end("cancelled", None)

    def _sequence(self, request: Request, now: float) -> RunningSequence:
        request = request if request.arrival else replace(request, arrival=now)
        seed = random.getrandbits(63) if request.sampling.seed is None else request.sampling.seed
        return RunningSequence(request, arrival=request.arrival, seed=seed, block_size=self._pool.block_size)

    def _matcher(self, request: Request) -> Matcher | None:
        constraint = request.sampling.grammar
        if constraint is None:
            return None
        if self._grammars is None:
            raise InvalidRequest("this engine has no grammars: send the request without one")
        return self._grammars.start(constraint)

    # -- called from the engine's thread only ---------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                self._drain_commands()
                if not self._paused and not self._closed:
                    self._step_or_recover()
        except BaseException:
            log.exception("the engine thread died")
            self._end("error", "the engine stopped")
            raise
        self._end("cancelled", None)

    def _drain_commands(self) -> None:
        """Run what has come in; wait for a command only when there is nothing else to do."""
        has_work = self._scheduler.num_waiting or self._scheduler.num_running
        with contextlib.suppress(queue.Empty):
            if self._paused or not has_work:
                self._commands.get(timeout=1.0)()
            while True:
                self._commands.get_nowait()()

    def _release(self, sequence_id: str) -> None:
        self._backend.release(sequence_id)
        if self._speculation is not None:
            self._speculation.release(sequence_id)

    def _enqueue(self, sequence: RunningSequence, matcher: Matcher | None) -> None:
        if matcher is not None:
            self._constraints.begin(sequence.id, matcher)
        self._tell(self._observer, sequence.request)
        self._scheduler.add(sequence)

    def _step_or_recover(self) -> None:
        try:
            self._step()
        except Exception:
            log.exception("a step failed outside the model; every request in the engine ends with an error")
            self._deliver(self._scheduler.finish_all("error", "internal error in the engine"))

    def _step(self) -> None:
        start = self._clock()
        self._deliver(self._scheduler.expire(start))
        began = time.perf_counter()
        work = self._schedule(start)
        if not work:
            if self._scheduler.num_running:  # all of them wait for their readers, and that is no stall
                self._progress = start
            if self._scheduler.num_waiting or self._scheduler.num_running:  # try again soon, but do not spin
                with contextlib.suppress(queue.Empty):
                    self._commands.get(timeout=HELD_BACK)()
            return
        self._scheduling_seconds += time.perf_counter() - began
        if self._speculation is not None:
            work = self._speculation.extend(work)
        work = self._multi_step.extend(work)
        began = time.perf_counter()
        done = self._runner.run(work)
        self._multi_step.observe(done.work, time.perf_counter() - began)
        self._deliver(done.events)
        self._report(done.work, start)

    def _room(self, sequence: RunningSequence) -> float:
        """Tokens that it may generate before its reader takes some."""
        ahead = sequence.request.ahead
        return math.inf if ahead is None else ahead - self._mailboxes[sequence.id].unread

    def _rests(self, sequence: RunningSequence) -> bool:
        return self._room(sequence) <= 0

    def _schedule(self, now: float) -> list[Work]:
        try:
            return self._scheduler.schedule(now)
        except Exception:
            if self._scheduler.policy.name == FALLBACK_POLICY:
                raise
            log.exception('policy "%s" failed; going on with "%s"', self._scheduler.policy.name, FALLBACK_POLICY)
            self._scheduler.policy = make_policy(FALLBACK_POLICY, self._config)
            return self._scheduler.schedule(now)

    def _deliver(self, events: Sequence[Event]) -> None:
        """Put each event into its mailbox; a client that let its mailbox fill up is cancelled."""
        for event in events:
            if isinstance(event, Finished):
                masks = self._constraints.release(event.request_id)
                self._tell(self._observer, replace(event, mask_seconds=masks) if masks else event)
            mailbox = self._mailboxes.get(event.request_id)
            if mailbox is None:
                continue
            if not mailbox.put(event):
                self._deliver(self._scheduler.finish(event.request_id, "error", "slow_consumer"))
            elif isinstance(event, Finished):
                self._request_seconds += 0.1 * (self._clock() - mailbox.opened - self._request_seconds)
                with self._lock:
                    del self._mailboxes[event.request_id]
                    self._adapters.end(self._sequences.pop(event.request_id).request)
                    self._idle.notify_all()
        if events:
            self._delivered()

    def _report(self, work: Sequence[Work], start: float) -> None:
        end = self._clock()
        self._step_seconds += end - start
        self._progress = end
        report = self._scheduler.report(work, start, end - start)
        self._steps = report.step
        self._tell(self._scheduler.policy.observe, report)
        self._tell(self._observer, report)

    def _tell(self, observe: Observer | None, observation: Observation) -> None:
        try:
            if observe is not None:
                observe(observation)
        except Exception:
            log.exception("an observer failed on a %s", type(observation).__name__)

    def _end(self, reason: str, error: str | None) -> None:
        """Last act: run no more, and leave nobody waiting."""
        with self._lock:
            self._closed = True
        with contextlib.suppress(queue.Empty):
            while True:
                self._commands.get_nowait()()
        self._deliver(self._scheduler.finish_all(reason, error))
