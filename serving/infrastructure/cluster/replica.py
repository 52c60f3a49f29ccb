"""One engine in a process of its own, as the gateway sees it from outside. Knows Ray as little as the engine does."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle.errors import LifecycleError
from serving.application.ports import EngineStats, ServedModel, TokenStream
from serving.domain.blocks import BlockMap
from serving.domain.errors import ServingError
from serving.domain.events import Event, Finished
from serving.domain.request import Request

log = logging.getLogger(__name__)

HEARTBEAT = 0.5  # seconds of silence after which a batch goes out with nothing but figures
BATCHES = 10_000
"""Of one stream of batches; then another one is opened, so that whoever counts them has an end."""

Build = Callable[[Callable[[], None]], ServedModel]
"""Loads the model; what it is given is to be called whenever events went into mailboxes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a replica's engine said since the last batch, for all requests together, and how it stands."""

    events: tuple[Event, ...]
    stats: EngineStats
    healthy: bool


class EngineReplica:
    """Answers to be had in batches: one message for the news of all requests, at most one every `pace` seconds.

    What is refused is returned, not raised: an exception on its way through Ray becomes another one.
    """

    def __init__(self, threads: int, cpus: int | None, pace: float) -> None:
        """`cpus`: a place among the CPUs of the machine, `threads` each; None: all of them."""
        if cpus is not None:
            own = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {own[(cpus * threads + at) % len(own)] for at in range(threads)})
        self._threads = threads
        self._pace = pace
        self._ready = threading.Event()
        self._streams: dict[str, TokenStream] = {}
        self._model: ServedModel | None = None

    def start(self, build: Build) -> tuple[int, EngineStats] | LifecycleError:
        """Load the model and start its engine; the id of this process, and how the engine stands."""
        import torch

        torch.set_num_threads(self._threads)
        try:
            self._model = build(self._ready.set)
        except LifecycleError as error:
            return error
        except ServingError as error:
            return LifecycleError(error.message)
        return os.getpid(), self._model.engine.stats()

    def submit(self, request: Request) -> ServingError | None:
        try:
            self._streams[request.id] = self._model.engine.submit(request)
        except ServingError as error:
            return error
        self._ready.set()  # it may have begun before it was among the streams
        return None

    def cancel(self, request_id: str, why: str | None) -> None:
        self._model.engine.cancel(request_id, why)

    def batches(self) -> Iterator[Batch]:
        """What happens, the first of it at once; for one reader."""
        sent = 0.0
        for _ in range(BATCHES):
            self._ready.wait(HEARTBEAT)
            time.sleep(max(0.0, sent + self._pace - time.monotonic()))
            self._ready.clear()
            sent = time.monotonic()
            engine = self._model.engine
            yield Batch(tuple(self._collect()), engine.stats(), engine.healthy())

    def _collect(self) -> Iterator[Event]:
        for name, stream in list(self._streams.items()):
            for event in stream.next(0):
                if isinstance(event, Finished):
                    del self._streams[name]
                yield event

    def swap_policy(self, name: str) -> None:
        self._model.engine.swap_policy(name)

    def add_adapter(self, adapter_id: str, weights: Any) -> LifecycleError | ServingError | None:
        try:
            self._model.engine.add_adapter(adapter_id, weights)
        except (LifecycleError, ServingError) as error:
            return error
        return None

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        return self._model.engine.remove_adapter(adapter_id, timeout)

    def block_map(self) -> BlockMap:
        return self._model.engine.block_map()

    def embed(self, sequences: Sequence[tuple[int, ...]]) -> list[list[float]] | ServingError:
        try:
            return self._model.embed(sequences)
        except ServingError as error:
            return error
