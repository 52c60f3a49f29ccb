"""Where the time of each request went, as the engine and the HTTP side saw it. Times in seconds of the monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from serving.application.observing import Observation
from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request

OWN_END = ("stop", "length")  # these ends come before the report of the step that brought them


@dataclass(frozen=True, slots=True)
class EngineTiming:
    """One request in the engine: None where it did not come so far."""

    id: str
    arrival: float
    started: float | None
    """The first step that had work of it began."""
    first_token: float | None
    """The step that brought its first token ended."""
    ended: float
    mask_seconds: float
    """Spent on what its grammar allows, in all steps together."""
    reason: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class HttpTiming:
    """One HTTP request from its first to its last byte. `answers` are the ids of its choices in the engine."""

    name: str
    began: float
    ended: float
    status: int
    request_id: str
    traceparent: str | None = None
    """W3C's header, if the client brought one: its span is the parent."""
    streamed: bool = False
    answers: tuple[str, ...] = ()
    version: str | None = None


@dataclass(slots=True)
class _Row:
    arrival: float
    started: float | None = None
    first_token: float | None = None


class TimingObserver:
    """An engine observer that tells the timing of every request when it is complete. Belongs to the engine's thread."""

    def __init__(self, tell: Callable[[EngineTiming], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        self._rows: dict[str, _Row] = {}
        self._ending: list[tuple[Finished, float]] = []

    def __call__(self, observation: Observation) -> None:
        if isinstance(observation, Request):
            self._rows[observation.id] = _Row(observation.arrival)
        elif isinstance(observation, Finished):
            self._ending.append((observation, self._clock()))
            if observation.reason not in OWN_END:
                self._end()
        else:
            self._step(observation)
            self._end()

    def _step(self, report: StepReport) -> None:
        for work in report.work:
            row = self._rows.get(work.id)
            if row is None or row.first_token is not None:
                continue
            if row.started is None:
                row.started = report.start
            if work.samples:
                row.first_token = report.start + report.duration

    def _end(self) -> None:
        for finished, ended in self._ending:
            row = self._rows.pop(finished.request_id, None)
            if row is not None:
                self._tell(
                    EngineTiming(
                        finished.request_id, row.arrival, row.started, row.first_token, ended, finished.mask_seconds,
                        finished.reason, finished.prompt_tokens, finished.completion_tokens, finished.cached_tokens,
                    )
                )
        self._ending.clear()
