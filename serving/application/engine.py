"""The engine: one thread that turns submitted requests into tokens, one packed step after the other.

    drain commands -> expire deadlines -> scheduler (policy, blocks) -> backend -> sampler -> events into mailboxes

Everything the thread owns (scheduler, pool, backend) is touched by no other thread: commands are closures that it runs
between two steps. Clients only ever see their `Mailbox`.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from serving.application.mailbox import Mailbox
from serving.application.ports import Draw, EngineStats, ModelBackend, Sampler, SequenceSlice
from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.errors import ContextLengthExceeded, Draining, InvalidRequest, QueueFull
from serving.domain.events import Event, Finished, TokenLogprob
from serving.domain.plan import StepReport
from serving.domain.policies import make_policy
from serving.domain.request import Request
from serving.domain.scheduler import Scheduler, Work
from serving.domain.sequence import Sequence as RunningSequence

log = logging.getLogger(__name__)

Observation = Request | StepReport | Finished
Observer = Callable[[Observation], None]
FALLBACK_POLICY = "mixed-chunked"
HELD_BACK = 0.01  # seconds to wait for a command when the policy plans nothing although work waits


class EngineLoop:
    """An `EnginePort` in a thread of this process.

    `observer` is told on the engine's thread about every request that comes in (its arrival filled in), every step, and
    every end; the ends that a step brings come before its report.
    """

    def __init__(
        self,
        backend: ModelBackend,
        sampler: Sampler,
        config: SchedulerConfig,
        *,
        context_length: int,
        observer: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._backend = backend
        self._sampler = sampler
        self._config = config
        self._context_length = context_length
        self._observer = observer
        self._clock = clock
        self._pool = BlockPool(
            backend.num_blocks,
            backend.block_size,
            prefix_caching=config.prefix_caching and backend.shares_prefixes,
            on_close=backend.release,
        )
        self._scheduler = Scheduler(config, make_policy(config.policy, config), self._pool)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._mailboxes: dict[str, Mailbox] = {}  # submitted and not finished; guarded by _lock
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._draining = self._closed = self._paused = False
        self._steps = 0
        self._step_seconds = 0.0
        self._request_seconds = 1.0  # moving average of a request's time in the engine, for Retry-After
        self._started = self._progress = clock()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> EngineLoop:
        """Start the thread; call it after a fork, never before."""
        self._thread.start()
        return self

    # -- called from any thread ---------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Mailbox:
        """Queue a request. Raises InvalidRequest, ContextLengthExceeded, QueueFull or Draining."""
        self._check(request)
        mailbox = Mailbox(request.id, self._config.mailbox_tokens, self.cancel)
        with self._lock:
            if self._draining or self._closed:
                raise Draining("the server is shutting down and takes no new requests")
            if request.id in self._mailboxes:
                raise InvalidRequest(f'request id "{request.id}" is in use', param="id")
            if len(self._mailboxes) >= self._config.max_num_seqs + self._config.queue_limit:
                raise QueueFull(
                    f"{len(self._mailboxes)} requests are running or waiting already; try again later",
                    retry_after=max(1.0, min(60.0, self._request_seconds)),
                )
            if not self._mailboxes:
                self._progress = self._clock()
            self._mailboxes[request.id] = mailbox
            # Inside the lock, or a loop that ends right now would miss the request.
            self._commands.put(lambda: self._enqueue(request))
        return mailbox

    def cancel(self, request_id: str) -> None:
        """End a request with reason "cancelled"; unknown and finished ids are ignored."""
        self._commands.put(lambda: self._deliver(self._scheduler.finish(request_id, "cancelled")))

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
        )

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

    def _check(self, request: Request) -> None:
        prompt, wanted = len(request.prompt_tokens), request.sampling.max_tokens
        if not prompt:
            raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
        if wanted < 1:
            raise InvalidRequest(f"max_tokens must be at least 1, not {wanted}", param="max_tokens")
        if not 0 <= min(request.prompt_tokens) <= max(request.prompt_tokens) < self._backend.vocab_size:
            raise InvalidRequest(f"prompt tokens must be between 0 and {self._backend.vocab_size - 1}", param="prompt")
        capacity = min(self._context_length, self._pool.total * self._pool.block_size)
        if prompt + wanted > capacity:
            raise ContextLengthExceeded(
                f"{prompt} prompt tokens and max_tokens={wanted} make {prompt + wanted}, "
                f"but at most {capacity} fit; shorten the prompt or lower max_tokens",
                param="max_tokens" if prompt < capacity else "prompt",
            )

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

    def _enqueue(self, request: Request) -> None:
        sampling = request.sampling
        seed = random.getrandbits(63) if sampling.seed is None else sampling.seed
        arrival = request.arrival or self._clock()
        self._tell(self._observer, replace(request, arrival=arrival))
        self._scheduler.add(RunningSequence(request, arrival=arrival, seed=seed, block_size=self._pool.block_size))

    def _step_or_recover(self) -> None:
        try:
            self._step()
        except Exception:
            log.exception("a step failed outside the model; every request in the engine ends with an error")
            self._deliver(self._scheduler.finish_all("error", "internal error in the engine"))

    def _step(self) -> None:
        start = self._clock()
        self._deliver(self._scheduler.expire(start))
        work = self._schedule(start)
        if not work:
            if self._scheduler.num_waiting:  # held back by the policy: try again soon, but do not spin
                with contextlib.suppress(queue.Empty):
                    self._commands.get(timeout=HELD_BACK)()
            return
        self._deliver(self._compute(work))
        self._report(work, start)

    def _schedule(self, now: float) -> list[Work]:
        try:
            return self._scheduler.schedule(now)
        except Exception:
            if self._scheduler.policy.name == FALLBACK_POLICY:
                raise
            log.exception('policy "%s" failed; going on with "%s"', self._scheduler.policy.name, FALLBACK_POLICY)
            self._scheduler.policy = make_policy(FALLBACK_POLICY, self._config)
            return self._scheduler.schedule(now)

    def _compute(self, work: Sequence[Work]) -> list[Event]:
        """Run a step. When it fails, run its sequences one at a time, so that only the guilty one ends with an error."""
        try:
            sampled = self._forward(work)
        except Exception as error:
            if len(work) > 1:
                log.warning("a step of %d sequences failed (%r); running them one at a time", len(work), error)
                return [event for item in work for event in self._compute([item])]
            log.exception('request "%s" failed', work[0].sequence.id)
            message = f"internal error while computing this request: {type(error).__name__}"
            return self._scheduler.finish(work[0].sequence.id, "error", message)
        return self._scheduler.complete(work, sampled)

    def _forward(self, work: Sequence[Work]) -> list[TokenLogprob | int]:
        batch, draws = [], []
        for sequence, start, count, _, samples in work:
            tokens = sequence.tokens[start : start + count]
            batch.append(SequenceSlice(sequence.id, tokens, start, self._pool.table(sequence.id), samples))
            if samples:
                draws.append(Draw(sequence.request.sampling, sequence.seed, sequence.generated, sequence.tokens))
        logits = self._backend.execute(batch)
        return self._sampler.sample(logits, draws) if draws else []

    def _deliver(self, events: Sequence[Event]) -> None:
        """Put each event into its mailbox; a client that let its mailbox fill up is cancelled."""
        for event in events:
            if isinstance(event, Finished):
                self._tell(self._observer, event)
            mailbox = self._mailboxes.get(event.request_id)
            if mailbox is None:
                continue
            if not mailbox.put(event):
                self._deliver(self._scheduler.finish(event.request_id, "error", "slow_consumer"))
            elif isinstance(event, Finished):
                with self._lock:
                    del self._mailboxes[event.request_id]
                    self._idle.notify_all()

    def _report(self, work: Sequence[Work], start: float) -> None:
        end = self._clock()
        self._steps += 1
        self._step_seconds += end - start
        self._progress = end
        report = self._scheduler.report(work, start, end - start)
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
