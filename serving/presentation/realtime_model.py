"""Who answers in a live conversation: a model of the catalog, on behalf of the caller, within their limits, and counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from serving.application.access import Caller
from serving.application.chat import GenerateChat
from serving.application.deltas import Delta, Usage
from serving.application.generation import Generation
from serving.application.ports import ServedModel
from serving.application.quota import Lease
from serving.domain.errors import Draining
from serving.presentation.metrics import Meter
from serving.presentation.state import ServerState


class ConnectedModel:
    """As `LanguageModel`. Each answer counts against the caller's limits like a request of its own."""

    def __init__(self, state: ServerState, caller: Caller, name: str | None) -> None:
        self._state = state
        self._caller = caller
        self._name = name

    def model(self) -> ServedModel:
        """The one that is asked for now: it may be swapped while people talk."""
        return self._state.model(self._name)

    def named(self, name: str) -> ServedModel:
        """Raises `ModelNotFound`."""
        return self._state.model(name)

    def ask(self, command: GenerateChat) -> Asked:
        """As `LanguageModel`."""
        lease = self._state.limiter.admit(self._caller.tenant, self._caller.limits)
        try:
            generation = self._start(replace(command, tenant=self._caller.tenant))
        except BaseException:
            lease.release()
            raise
        lease.charge(lambda: generation.usage.total_tokens)
        return Asked(generation, Meter(self._state.metrics, generation, self._state.canary), lambda: self._end(lease))

    def _start(self, command: GenerateChat) -> Generation:
        while True:
            model = self.model()
            try:
                return command.start(model, "realtime")
            except Draining:
                if self.model() is model:
                    raise

    def _end(self, lease: Lease) -> None:
        tokens = lease.release()
        if self._caller.named and tokens:
            self._state.tenants.used(self._caller.tenant, tokens)


class Asked:
    """As `Answering`."""

    def __init__(self, generation: Generation, meter: Meter, end: Callable[[], None]) -> None:
        self._generation = generation
        self._meter = meter
        self._end = end

    @property
    def usage(self) -> Usage:
        """Complete at the end."""
        return self._generation.usage

    def deltas(self, tick: float) -> Iterator[Sequence[Delta]]:
        """As `Answering`."""
        updates = self._generation.updates(tick)
        try:
            for deltas in updates:
                self._meter.observe(deltas)
                yield deltas
        finally:
            updates.close()
            self._meter.close()
            self._end()
