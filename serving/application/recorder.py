"""Keeps what every step did, to be drawn as a timeline of batches."""

from __future__ import annotations

from collections import deque

from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request


class StepRecorder:
    """An engine observer: `EngineLoop(..., observer=recorder)`, then read `recorder.reports`. Keeps the newest `limit`."""

    def __init__(self, limit: int = 100_000) -> None:
        self._reports: deque[StepReport] = deque(maxlen=limit)

    def __call__(self, observation: Request | StepReport | Finished) -> None:
        if isinstance(observation, StepReport):
            self._reports.append(observation)

    @property
    def reports(self) -> list[StepReport]:
        """A copy, oldest first."""
        return list(self._reports)

    def clear(self) -> None:
        self._reports.clear()
