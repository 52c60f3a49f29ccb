"""The replicas that come and go: brought up, told what the others know, listened to, replaced, as many as the load wants."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from lifecycle.errors import LifecycleError
from serving.application.combining import combine_stats
from serving.application.ports import EngineStats
from serving.domain.scaling import ScalingRule, demand
from serving.infrastructure.cluster.replica import Batch, Build, EngineReplica
from serving.infrastructure.cluster.state import Flight, Replica
from serving.infrastructure.config import ServingConfig

log = logging.getLogger(__name__)

START_SECONDS = 600.0  # to load a large model from a slow disk
CALL_SECONDS = 30.0
ADAPTER_SECONDS = 600.0
LATE = 3.0  # seconds between two looks at the replicas after which nothing is known of them
PULSE = 1.0  # seconds between two looks at whether there are too many replicas or too few
CALLS = 32  # at the same time, of one replica
LONGEST_PAUSE = 60.0  # seconds before a replica that did not start is tried again


class Fleet:
    """`config.replicas` actors and what they are told. Everything it keeps changes under the lock of `changed`, which is notified."""

    def __init__(
        self,
        build: Build,
        config: ServingConfig,
        changed: threading.Condition,
        *,
        take: Callable[[Replica, Batch], None],
        lost: Callable[[Sequence[Flight]], None],
        requests: Callable[[], int],
    ) -> None:
        """`take` gets what a replica says, `lost` the requests of one that is gone; `requests` run or wait."""
        self._build = build
        self._config = config
        self._changed = self._lock = changed
        self._take, self._lost, self._requests = take, lost, requests
        self._local = not config.ray_address
        self._replicas: dict[int, Replica] = {}
        self._adapters: dict[str, Any] = {}
        self._gone: list[EngineStats] = []
        self._adapting = threading.Lock()
        self._numbers = itertools.count()
        self._policy = config.policy
        self._rule = ScalingRule(
            config.replicas,
            max(config.replicas, config.max_replicas),
            config.requests_per_replica or config.max_num_seqs,
            config.replica_patience,
        )
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._started = time.monotonic()

    def start(self) -> None:
        """Wait for the first ones. Raises LifecycleError when one does not start."""
        with ThreadPoolExecutor(self._rule.least) as pool:
            list(pool.map(lambda _: self._bring_up(self._new_replica()), range(self._rule.least)))
        self._begin("replicas", self._watch_load)
        self._begin("pulse", self._watch_health)

    def stop(self) -> None:
        """From now on nobody is replaced."""
        self._stopped.set()

    def close(self) -> None:
        """End all of them; afterwards no thread of the fleet calls Ray any more."""
        for replica in self.all():
            self.lose(replica)
        for thread in self._threads:
            thread.join(CALL_SECONDS)

    def all(self) -> list[Replica]:
        """Those that serve, start or leave."""
        with self._lock:
            return list(self._replicas.values())

    def serving(self) -> list[Replica]:
        """Oldest first."""
        return [replica for replica in self.all() if replica.serves]

    def has(self, replica: Replica) -> bool:
        return replica.number in self._replicas

    def stats(self) -> EngineStats:
        """Of all replicas together, at most half a second old."""
        with self._lock:
            live = [replica.stats for replica in self._replicas.values() if replica.stats is not None]
            return combine_stats(live or self._gone[-1:], self._gone if live else self._gone[:-1], time.monotonic() - self._started)

    def healthy(self) -> bool:
        """Whether some replica works, or is being started."""
        return not self._stopped.is_set() and any(not one.pid or self._works(one) for one in self.all() if not one.leaving)

    def _works(self, replica: Replica) -> bool:
        """Its engine computes, and its process says so."""
        return replica.healthy and time.monotonic() - replica.heard < self._config.stall_seconds

    # -- what all of them are told ------------------------------------------------------------------------------------

    def swap_policy(self, name: str) -> None:
        with self._lock:
            self._policy = name
        self.tell_all("swap_policy", name, timeout=CALL_SECONDS)

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """All replicas have it, or none."""
        with self._adapting:
            self._add_adapter(adapter_id, ray.put(weights))

    def _add_adapter(self, adapter_id: str, stored: Any) -> None:
        with self._lock:  # whoever serves by now is told, whoever starts finds it here
            self._adapters[adapter_id] = stored
            serving = self.serving()
        try:
            for answer in self._tell(serving, "add_adapter", adapter_id, stored, timeout=ADAPTER_SECONDS):
                _raise(answer)
        except BaseException:
            with self._lock:
                self._adapters.pop(adapter_id, None)
            self.tell_all("remove_adapter", adapter_id, 0.0, timeout=ADAPTER_SECONDS)
            raise

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        with self._lock:
            self._adapters.pop(adapter_id, None)
        return all(self.tell_all("remove_adapter", adapter_id, timeout, timeout=timeout + CALL_SECONDS))

    def tell_all(self, method: str, *arguments: Any, timeout: float) -> list[Any]:
        """The answers of the replicas that serve; one that is lost meanwhile has none."""
        return self._tell(self.serving(), method, *arguments, timeout=timeout)

    def _tell(self, replicas: Sequence[Replica], method: str, *arguments: Any, timeout: float) -> list[Any]:
        answers = []
        for call in [getattr(replica.actor, method).remote(*arguments) for replica in replicas]:
            try:
                answers.append(ray.get(call, timeout=timeout))
            except RayActorError:
                continue
        return answers

    # -- one of them --------------------------------------------------------------------------------------------------

    def _new_replica(self) -> Replica:
        config = self._config
        with self._lock:
            taken = {replica.place for replica in self._replicas.values()}
            place = next(at for at in itertools.count() if at not in taken)
            options = {"num_cpus": 0 if self._local else config.replica_threads, "num_gpus": config.replica_gpus}
            actor = ray.remote(EngineReplica).options(max_concurrency=CALLS, **options)
            cpus = place if config.pin_replicas else None
            replica = Replica(next(self._numbers), place, actor.remote(config.replica_threads, cpus, config.replica_pace))
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
        self._begin(f"replica {replica.number}", self._listen, replica)

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

    def _listen(self, replica: Replica) -> None:
        """Until the replica is gone: its events into the mailboxes."""
        try:
            while replica.number in self._replicas:
                for batch in replica.actor.batches.options(num_returns="streaming").remote():
                    self._take(replica, ray.get(batch))
        except Exception as error:
            if not self._stopped.is_set() and not replica.leaving:
                log.warning("replica %d (process %d) is lost: %s", replica.number, replica.pid, type(error).__name__)
        self.lose(replica)

    def lose(self, replica: Replica) -> None:
        """A replica is gone, whoever noticed first: end or restart its requests, and start another one."""
        with self._lock:
            if self._replicas.pop(replica.number, None) is None:
                return
            if replica.stats is not None:
                self._gone.append(replica.stats)
            flights = [flight for flight in replica.flights.values() if not flight.placing]
            replica.flights = {}  # what it has said and nobody has heard yet is not to be heard any more
            self._changed.notify_all()
        _kill(replica)
        if self._stopped.is_set():
            return
        self._lost(flights)
        if not replica.leaving:
            self._begin("replace", self._replace)

    def _begin(self, name: str, work: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            thread = threading.Thread(target=work, args=arguments, name=name, daemon=True)
            thread.start()
            self._threads = [thread, *filter(threading.Thread.is_alive, self._threads)]

    def _replace(self) -> None:
        """Until there are enough replicas again."""
        for attempt in itertools.count():
            with self._lock:
                if self._stopped.is_set() or len(self._replicas) >= self._rule.least:
                    return
                replica = self._new_replica()
            try:
                self._bring_up(replica)
                return
            except LifecycleError as error:
                log.error("%s", error)
                self._stopped.wait(min(LONGEST_PAUSE, 2**attempt))

    def _watch_health(self) -> None:
        """Replace, one after the other, who computes nothing any more though its process is there: it would be given requests for ever."""
        looked = time.monotonic()
        while not self._stopped.wait(PULSE):
            now, before = time.monotonic(), looked
            looked = now
            if now - before > LATE or self._adapting.locked():
                continue  # this process has stood still itself, or the engines read an adapter
            silent = next((replica for replica in self.all() if replica.pid and not self._works(replica)), None)
            if silent is None:
                continue
            log.warning("replica %d (process %d) does nothing any more and is replaced", silent.number, silent.pid)
            self.lose(silent)
            if self._local:  # what Ray asks it to do a process that stands still does not do
                with contextlib.suppress(OSError):
                    os.kill(silent.pid, signal.SIGKILL)

    def _watch_load(self) -> None:
        """Start and stop replicas as the load wants."""
        low_since = None
        while self._rule.most > self._rule.least and not self._stopped.wait(PULSE):
            with self._lock:
                staying = [replica for replica in self._replicas.values() if not replica.leaving]
                wanted = demand(self._rule, len(staying), self._requests(), time.monotonic(), low_since)
                low_since = wanted.low_since
                surplus = sorted((one for one in staying if one.serves), key=lambda one: len(one.flights))
                for replica in surplus[: max(0, len(staying) - wanted.replicas)]:
                    replica.leaving = True
                idle = [one for one in self._replicas.values() if one.leaving and not one.flights]
                another = self._new_replica() if wanted.replicas > len(staying) and not self._stopped.is_set() else None
            for replica in idle:
                self.lose(replica)
            if another is not None:
                try:
                    self._bring_up(another)
                except LifecycleError as error:
                    log.error("%s", error)
                    self._stopped.wait(LONGEST_PAUSE)


def _raise(answer: Exception | None) -> None:
    if answer is not None:
        raise answer


def _kill(replica: Replica) -> None:
    try:
        ray.kill(replica.actor)
    except Exception:  # it is gone, or Ray is
        log.debug("replica %d cannot be killed", replica.number, exc_info=True)
