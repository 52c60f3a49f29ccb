"""Many engines behind one `EnginePort`: each in a Ray actor, the gateway and its mailboxes here.

    submit -> router -> one replica          (one call per request, so that a refusal is known before the answer begins)
    replica -> batches of events -> mailboxes  (one message per step, for all requests of that replica)

A replica that is lost takes the answers that had begun with it: each ends with an error. Requests that had not begun go to
another replica, and another replica is started in its place.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from lifecycle.errors import LifecycleError
from serving.application.combining import combine_maps, combine_stats
from serving.application.mailbox import Mailbox
from serving.application.ports import EngineStats, RunningRequest
from serving.domain.blocks import BlockMap
from serving.domain.errors import Draining, InvalidRequest, NoReplica, QueueFull
from serving.domain.events import Event, Finished, PromptScored, TokensGenerated
from serving.domain.policies import make_policy
from serving.domain.request import Request
from serving.domain.routing import PrefixRouter, beginnings
from serving.domain.scaling import ScalingRule, demand
from serving.infrastructure.cluster.replica import Batch, Build, EngineReplica
from serving.infrastructure.config import ServingConfig

log = logging.getLogger(__name__)

START_SECONDS = 600.0  # to load a large model from a slow disk
CALL_SECONDS = 30.0
ADAPTER_SECONDS = 600.0
PULSE = 1.0  # seconds between two looks at whether there are too many replicas or too few
CALLS = 32  # at the same time, of one replica
LONGEST_PAUSE = 60.0  # seconds before a replica that did not start is tried again
LOST = "the replica that computed this answer was lost; send the request again"


@dataclass(slots=True, eq=False)
class Replica:
    """One actor as the gateway knows it. `pid` is 0 until it serves."""

    number: int
    place: int
    actor: Any
    pid: int = 0
    leaving: bool = False
    stats: EngineStats | None = None
    healthy: bool = True
    heard: float = 0.0
    flights: dict[str, Flight] = field(default_factory=dict)

    @property
    def serves(self) -> bool:
        return bool(self.pid) and not self.leaving


@dataclass(slots=True, eq=False)
class Flight:
    """One request on its way. `placing`: the thread that brings it to a replica sees to it when that one is lost."""

    request: Request
    mailbox: Mailbox
    prefix: list[bytes]
    replica: Replica | None = None
    placing: bool = True
    begun: bool = False
    generated: int = 0
    cancelled: str | None = None
    over: bool = False


class ReplicatedEngine:
    """An `EnginePort` over `config.replicas` actors, each of which calls `build`. `close` it; that calls `leave` at the end.

    This process is connected to a cluster already (`node.join`). Raises LifecycleError when a replica does not start.
    """

    def __init__(self, build: Build, config: ServingConfig, leave: Callable[[], None] = lambda: None) -> None:
        self._leave = leave
        self._build = build
        self._config = config
        self._local = not config.ray_address
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # replicas came or went, requests ended
        self._replicas: dict[int, Replica] = {}
        self._flights: dict[str, Flight] = {}
        self._adapters: dict[str, Any] = {}
        self._gone: list[EngineStats] = []
        self._router = PrefixRouter()
        self._numbers = itertools.count()
        self._policy = config.policy
        self._rule = ScalingRule(
            config.replicas, max(config.replicas, config.max_replicas), config.requests_per_replica or config.max_num_seqs
        )
        self._draining = self._closed = False
        self._started = time.monotonic()
        try:
            with ThreadPoolExecutor(config.replicas) as pool:
                list(pool.map(lambda _: self._bring_up(self._new_replica()), range(config.replicas)))
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._watch_load, name="replicas", daemon=True).start()

    # -- requests -----------------------------------------------------------------------------------------------------

    def submit(self, request: Request) -> Mailbox:
        """Queue a request on one of the replicas. Raises what an engine raises, and NoReplica while none serves."""
        mailbox = Mailbox(request.id, self._config.mailbox_tokens, self.cancel, opened=time.monotonic())
        flight = Flight(request, mailbox, beginnings(request, self._config.block_size))
        with self._lock:
            if self._draining or self._closed:
                raise Draining("this model is being shut down and takes no new requests")
            if request.id in self._flights:
                raise InvalidRequest(f'request id "{request.id}" is in use', param="id")
            room = len(self._replicas) * (self._config.max_num_seqs + self._config.queue_limit)
            if len(self._flights) >= max(1, room):
                raise QueueFull(f"{len(self._flights)} requests are running or waiting already; try again later")
            self._flights[request.id] = flight
        try:
            self._place(flight)
        except BaseException:
            with self._lock:
                self._forget(flight)
            raise
        return mailbox

    def cancel(self, request_id: str, why: str | None = None) -> None:
        with self._lock:
            flight = self._flights.get(request_id)
            if flight is None or flight.cancelled is not None:
                return
            flight.cancelled = why or ""
            replica = flight.replica
        if replica is not None:
            replica.actor.cancel.remote(request_id, why)

    def unfinished(self) -> list[RunningRequest]:
        """What waits or runs, oldest first; a request runs from its first token on."""
        now = time.monotonic()
        with self._lock:
            flights = sorted(self._flights.values(), key=lambda one: one.mailbox.opened)
        return [
            RunningRequest(
                id=flight.request.id,
                tenant=flight.request.tenant,
                state="running" if flight.begun else "waiting",
                prompt_tokens=len(flight.request.prompt_tokens),
                generated_tokens=flight.generated,
                max_tokens=flight.request.sampling.max_tokens,
                priority=flight.request.priority,
                age=now - flight.mailbox.opened,
            )
            for flight in flights
        ]

    def _place(self, flight: Flight) -> None:
        """Bring a request to a replica; to another one if that is lost meanwhile."""
        while True:
            with self._lock:
                replica = self._choose(flight)
                flight.replica, flight.placing = replica, True
                replica.flights[flight.request.id] = flight
            try:
                refusal = ray.get(replica.actor.submit.remote(flight.request), timeout=CALL_SECONDS)
            except RayActorError:
                self._lose(replica)
                continue
            except RayError as error:
                raise NoReplica(f"a replica does not answer ({type(error).__name__}); try again") from error
            finally:
                with self._lock:
                    flight.placing = False
            if refusal is not None:
                raise refusal
            with self._lock:
                lost = replica.number not in self._replicas and not flight.over
                cancelled = flight.cancelled
            if cancelled is not None:
                replica.actor.cancel.remote(flight.request.id, cancelled or None)
            if lost:  # between its answer and now
                self._settle([flight])
            return

    def _choose(self, flight: Flight) -> Replica:
        serving = {number: replica for number, replica in self._replicas.items() if replica.serves}
        if not serving:
            raise NoReplica("no replica of this model serves at the moment; try again in a few seconds")
        number = self._router.route(
            list(serving), lambda one: len(serving[one].flights), sum(len(one.flights) for one in serving.values()), flight.prefix
        )
        return serving[number]

    # -- what replicas say --------------------------------------------------------------------------------------------

    def _listen(self, replica: Replica) -> None:
        """Until the replica is gone: its events into the mailboxes."""
        try:
            while replica.number in self._replicas:
                for batch in replica.actor.batches.options(num_returns="streaming").remote():
                    self._take(replica, ray.get(batch))
        except Exception as error:
            if not self._closed and not replica.leaving:
                log.warning("replica %d (process %d) is lost: %s", replica.number, replica.pid, type(error).__name__)
        self._lose(replica)

    def _take(self, replica: Replica, batch: Batch) -> None:
        replica.stats, replica.healthy, replica.heard = batch.stats, batch.healthy, time.monotonic()
        for event in batch.events:
            flight = replica.flights.get(event.request_id)
            if flight is not None and not self._put(flight, event):
                replica.actor.cancel.remote(event.request_id, None)

    def _put(self, flight: Flight, event: Event) -> bool:
        """False when the client does not read: its request has to end."""
        if isinstance(event, Finished):
            with self._lock:
                self._forget(flight)
        elif isinstance(event, TokensGenerated | PromptScored):
            flight.begun = True
            flight.generated += len(event.tokens) if isinstance(event, TokensGenerated) else 0
        return flight.mailbox.put(event)

    def _forget(self, flight: Flight) -> None:
        flight.over = True
        self._flights.pop(flight.request.id, None)
        if flight.replica is not None:
            flight.replica.flights.pop(flight.request.id, None)
        self._changed.notify_all()

    # -- replicas that come and go --------------------------------------------------------------------------------------

    def _new_replica(self) -> Replica:
        config = self._config
        with self._lock:
            taken = {replica.place for replica in self._replicas.values()}
            place = next(at for at in itertools.count() if at not in taken)
            options = {"num_cpus": 0 if self._local else config.replica_threads, "num_gpus": config.replica_gpus}
            actor = ray.remote(EngineReplica).options(max_concurrency=CALLS, **options)
            cpus = place if config.pin_replicas else None
            replica = Replica(next(self._numbers), place, actor.remote(config.replica_threads, cpus))
            self._replicas[replica.number] = replica
        return replica

    def _bring_up(self, replica: Replica) -> None:
        """Wait until it has loaded the model, and listen to it. Raises LifecycleError."""
        try:
            started = ray.get(replica.actor.start.remote(self._build), timeout=START_SECONDS)
            if isinstance(started, LifecycleError):
                raise started
            pid, replica.stats = started
            self._catch_up(replica, pid)
        except (RayError, LifecycleError) as error:
            with self._lock:
                self._replicas.pop(replica.number, None)
            _kill(replica)
            if isinstance(error, LifecycleError):
                raise
            raise LifecycleError(f"a replica did not start: {str(error).strip().splitlines()[-1]}") from None
        threading.Thread(target=self._listen, args=(replica,), name=f"replica {replica.number}", daemon=True).start()

    def _catch_up(self, replica: Replica, pid: int) -> None:
        """What the others have been told since they started; it serves when nothing is left."""
        known: set[str] = set()
        policy = self._config.policy
        while True:
            with self._lock:
                missing = {name: weights for name, weights in self._adapters.items() if name not in known}
                if not missing and policy == self._policy:
                    replica.heard = time.monotonic()
                    replica.pid = pid
                    self._changed.notify_all()
                    return
                wanted = self._policy
            for name, weights in missing.items():
                _raise(ray.get(replica.actor.add_adapter.remote(name, weights), timeout=ADAPTER_SECONDS))
            if wanted != policy:
                ray.get(replica.actor.swap_policy.remote(wanted), timeout=CALL_SECONDS)
            known, policy = known | missing.keys(), wanted

    def _lose(self, replica: Replica) -> None:
        """A replica is gone, whoever noticed first: end or restart its requests, and start another one."""
        with self._lock:
            if self._replicas.pop(replica.number, None) is None:
                return
            if replica.stats is not None:
                self._gone.append(replica.stats)
            flights = [flight for flight in replica.flights.values() if not flight.placing]
            self._changed.notify_all()
        _kill(replica)
        if self._closed:
            return
        self._settle(flights)
        if not replica.leaving:
            threading.Thread(target=self._replace, name="replace", daemon=True).start()

    def _settle(self, flights: Sequence[Flight]) -> None:
        """What was lost with a replica: an answer that had begun is over, the rest begins elsewhere."""
        for flight in flights:
            if flight.cancelled is not None:
                self._end(flight, "cancelled", flight.cancelled or None)
            elif flight.begun:
                self._end(flight, "error", LOST)
            else:
                threading.Thread(target=self._again, args=(flight,), name="restart", daemon=True).start()

    def _again(self, flight: Flight) -> None:
        with self._lock:
            ready = self._changed.wait_for(lambda: self._closed or any(one.serves for one in self._replicas.values()), START_SECONDS)
        try:
            if not ready:
                raise NoReplica(LOST)
            self._place(flight)
        except Exception as error:
            self._end(flight, "error", getattr(error, "message", LOST))

    def _end(self, flight: Flight, reason: str, error: str | None) -> None:
        prompt = len(flight.request.prompt_tokens)
        if not flight.over:
            self._put(flight, Finished(flight.request.id, reason, prompt, flight.generated, error=error))

    def _replace(self) -> None:
        """Until there are enough replicas again."""
        for attempt in itertools.count():
            with self._lock:
                if self._closed or len(self._replicas) >= self._rule.least:
                    return
            try:
                self._bring_up(self._new_replica())
                return
            except LifecycleError as error:
                log.error("%s", error)
                time.sleep(min(LONGEST_PAUSE, 2**attempt))

    def _watch_load(self) -> None:
        """Start and stop replicas as the load wants."""
        low_since = None
        while not self._closed and self._rule.most > self._rule.least:
            time.sleep(PULSE)
            with self._lock:
                staying = [replica for replica in self._replicas.values() if not replica.leaving]
                wanted = demand(self._rule, len(staying), len(self._flights), time.monotonic(), low_since)
                low_since = wanted.low_since
                surplus = sorted((one for one in staying if one.serves), key=lambda one: len(one.flights))
                for replica in surplus[: max(0, len(staying) - wanted.replicas)]:
                    replica.leaving = True
                idle = [one for one in self._replicas.values() if one.leaving and not one.flights]
            for replica in idle:
                self._lose(replica)
            if wanted.replicas > len(staying):
                try:
                    self._bring_up(self._new_replica())
                except LifecycleError as error:
                    log.error("%s", error)
                    time.sleep(LONGEST_PAUSE)

    def replicas(self) -> list[Replica]:
        """Those that serve, oldest first."""
        with self._lock:
            return [replica for replica in self._replicas.values() if replica.serves]

    # -- the rest of the port ---------------------------------------------------------------------------------------------

    def stats(self) -> EngineStats:
        """Of all replicas together, at most half a second old."""
        with self._lock:
            live = [replica.stats for replica in self._replicas.values() if replica.stats is not None]
            return combine_stats(live or self._gone[-1:], self._gone if live else self._gone[:-1], time.monotonic() - self._started)

    def swap_policy(self, name: str) -> None:
        make_policy(name, self._config)
        with self._lock:
            self._policy = name
        self._tell_all("swap_policy", name, timeout=CALL_SECONDS)

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """All replicas have it, or none."""
        stored = ray.put(weights)
        try:
            for answer in self._tell_all("add_adapter", adapter_id, stored, timeout=ADAPTER_SECONDS):
                _raise(answer)
        except BaseException:
            self._tell_all("remove_adapter", adapter_id, 0.0, timeout=ADAPTER_SECONDS)
            raise
        with self._lock:
            self._adapters[adapter_id] = stored

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        with self._lock:
            self._adapters.pop(adapter_id, None)
        return all(self._tell_all("remove_adapter", adapter_id, timeout, timeout=timeout + CALL_SECONDS))

    def _tell_all(self, method: str, *arguments: Any, timeout: float) -> list[Any]:
        """The answers of the replicas that serve; one that is lost meanwhile has none."""
        answers = []
        for call in [getattr(replica.actor, method).remote(*arguments) for replica in self.replicas()]:
            try:
                answers.append(ray.get(call, timeout=timeout))
            except RayActorError:
                continue
        return answers

    def block_map(self) -> BlockMap:
        if self._closed:
            raise Draining("the engine is closed")
        return combine_maps(self._tell_all("block_map", timeout=CALL_SECONDS))

    def embed(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Vectors by the replica with the fewest requests."""
        serving = self.replicas()
        if not serving:
            raise NoReplica("no replica of this model serves at the moment; try again in a few seconds")
        return ray.get(min(serving, key=lambda one: len(one.flights)).actor.embed.remote(list(sequences)))

    def healthy(self) -> bool:
        """Whether some replica works, or is being started."""
        with self._lock:
            replicas = list(self._replicas.values())
        now, patience = time.monotonic(), self._config.stall_seconds
        return not self._closed and any(
            not one.pid or one.healthy and now - one.heard < patience for one in replicas if not one.leaving
        )

    def drain(self, timeout: float) -> bool:
        with self._lock:
            self._draining = True
            return self._changed.wait_for(lambda: not self._flights, timeout)

    def close(self) -> None:
        """End everything at once. Safe more than once."""
        with self._lock:
            if self._closed:
                return
            self._closed = self._draining = True
            flights, replicas = list(self._flights.values()), list(self._replicas.values())
            self._changed.notify_all()
        for flight in flights:
            self._end(flight, "cancelled", None)
        for replica in replicas:
            self._lose(replica)
        self._leave()


def _raise(answer: Exception | None) -> None:
    if answer is not None:
        raise answer


def _kill(replica: Replica) -> None:
    try:
        ray.kill(replica.actor)
    except Exception:  # it is gone, or Ray is
        log.debug("replica %d cannot be killed", replica.number, exc_info=True)
