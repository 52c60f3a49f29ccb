"""Many engines behind one `EnginePort`: each in a Ray actor, the gateway and its mailboxes here.

    submit -> router -> one replica          (one call per request, so that a refusal is known before the answer begins)
    replica -> batches of events -> mailboxes  (one message for the news of all requests of that replica, every `replica_pace` s)

A replica that is lost takes the answers that had begun with it: each ends with an error. Requests that had not begun go to
another replica, and another replica is started in its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from serving.application.combining import combine_maps
from serving.application.mailbox import Mailbox
from serving.application.ports import EngineStats, RunningRequest
from serving.domain.blocks import BlockMap
from serving.domain.errors import Draining, InvalidRequest, NoReplica, QueueFull, ServingError
from serving.domain.events import Event, Finished, PromptScored, TokensGenerated
from serving.domain.policies import make_policy
from serving.domain.request import Request
from serving.domain.routing import PrefixRouter, beginnings
from serving.infrastructure.cluster.fleet import CALL_SECONDS, START_SECONDS, Fleet
from serving.infrastructure.cluster.replica import Batch, Build
from serving.infrastructure.cluster.state import Flight, Replica
from serving.infrastructure.config import ServingConfig

EMBEDDINGS = 8
"""Requests for vectors that are with replicas at a time: they take turns there, and each holds one of a replica's threads."""
LOST = "the replica that computed this answer was lost; send the request again"


class ReplicatedEngine:
    """An `EnginePort` over `config.replicas` actors, each of which calls `build`. `close` it; that calls `leave` at the end.

    This process is connected to a cluster already (`node.join`). Raises LifecycleError when a replica does not start.
    """

    def __init__(self, build: Build, config: ServingConfig, leave: Callable[[], None] = lambda: None) -> None:
        self._leave = leave
        self._config = config
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # replicas came or went, requests ended
        self._embeddings = threading.BoundedSemaphore(EMBEDDINGS)
        self._flights: dict[str, Flight] = {}
        self._router = PrefixRouter()
        self._draining = self._closed = False
        self._fleet = Fleet(build, config, self._changed, take=self._take, lost=self._settle, requests=lambda: len(self._flights))
        try:
            self._fleet.start()
        except BaseException:
            self.close()
            raise

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
            room = len(self._fleet.all()) * (self._config.max_num_seqs + self._config.queue_limit)
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
                self._fleet.lose(replica)
                continue
            except RayError as error:
                replica.actor.cancel.remote(flight.request.id, None)  # it may still come to it, for nobody
                raise NoReplica(f"a replica does not answer ({type(error).__name__}); try again") from error
            finally:
                with self._lock:  # from here on `Fleet.lose` sees to it
                    flight.placing = False
                    lost = not self._fleet.has(replica) and not flight.over
                    self._changed.notify_all()
            if refusal is not None:
                raise refusal
            cancelled = flight.cancelled
            if cancelled is not None:
                replica.actor.cancel.remote(flight.request.id, cancelled or None)
            if lost:  # between its answer and now
                self._settle([flight])
            return

    def _choose(self, flight: Flight) -> Replica:
        serving = {replica.number: replica for replica in self._fleet.serving()}
        if not serving:
            raise NoReplica("no replica of this model serves at the moment; try again in a few seconds")
        number = self._router.route(
            list(serving), lambda one: len(serving[one].flights), sum(len(one.flights) for one in serving.values()), flight.prefix
        )
        return serving[number]

    def _take(self, replica: Replica, batch: Batch) -> None:
        replica.stats, replica.healthy, replica.heard = batch.stats, batch.healthy, time.monotonic()
        for event in batch.events:
            with self._lock:  # what a replica said before it was lost is either told, and the answer over, or never told
                flight = replica.flights.get(event.request_id)
                if flight is not None and isinstance(event, TokensGenerated | PromptScored):
                    flight.begun = True
            if flight is not None and not self._put(flight, event):
                replica.actor.cancel.remote(event.request_id, None)

    def _put(self, flight: Flight, event: Event) -> bool:
        """False when the client does not read: its request has to end."""
        if isinstance(event, Finished):
            with self._lock:
                self._forget(flight)
        elif isinstance(event, TokensGenerated):
            flight.generated += len(event.tokens)
        return flight.mailbox.put(event)

    def _forget(self, flight: Flight) -> None:
        flight.over = True
        self._flights.pop(flight.request.id, None)
        if flight.replica is not None:
            flight.replica.flights.pop(flight.request.id, None)
        self._changed.notify_all()

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
            ready = self._changed.wait_for(lambda: self._closed or bool(self._fleet.serving()), START_SECONDS)
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

    # -- the rest of the port ---------------------------------------------------------------------------------------------

    def replicas(self) -> list[Replica]:
        """Those that serve, oldest first."""
        return self._fleet.serving()

    def stats(self) -> EngineStats:
        """Of all replicas together, at most half a second old."""
        return self._fleet.stats()

    def swap_policy(self, name: str) -> None:
        make_policy(name, self._config)
        self._fleet.swap_policy(name)

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """All replicas have it, or none."""
        self._fleet.add_adapter(adapter_id, weights)

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        return self._fleet.remove_adapter(adapter_id, timeout)

    def block_map(self) -> BlockMap:
        if self._closed:
            raise Draining("the engine is closed")
        return combine_maps(self._fleet.tell_all("block_map", timeout=CALL_SECONDS))

    def embed(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]]:
        """Vectors by the replica with the fewest requests."""
        with self._embeddings:
            serving = self._fleet.serving()
            if not serving:
                raise NoReplica("no replica of this model serves at the moment; try again in a few seconds")
            try:
                found = ray.get(min(serving, key=lambda one: len(one.flights)).actor.embed.remote(list(sequences)))
            except RayActorError as error:
                raise NoReplica("the replica that computed this is gone; try again") from error
        if isinstance(found, ServingError):
            raise found
        return found

    def healthy(self) -> bool:
        """Whether some replica works, or is being started."""
        return self._fleet.healthy()

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
            self._fleet.stop()
            flights = list(self._flights.values())
            self._changed.notify_all()
        for flight in flights:
            self._end(flight, "cancelled", None)
        self._fleet.close()
        with self._lock:  # nobody may call Ray once it was left
            self._changed.wait_for(lambda: not any(flight.placing for flight in flights), CALL_SECONDS)
        self._leave()
