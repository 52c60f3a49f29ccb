"""Observers of an engine: keep what happened in memory, or write it to a file while it happens."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

from serving.application.observing import Observation
from serving.application.recording import FORMAT, PREFIX_BLOCK, Recording
from serving.domain.blocks import BlockChain
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request

log = logging.getLogger(__name__)

CONTENT_BITS = 48  # of a block's digest; fewer than 2**24 blocks rarely collide


class Encoder:
    """Turns observations into the lines of a recording; only requests that are not over yet take memory."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._count = 0
        self._time = 0.0  # end of the last step
        self._over: list[tuple[str, int]] = []

    def header(self, config: SchedulerConfig, *, num_blocks: int, model: str = "") -> dict[str, Any]:
        """The first line."""
        scheduler = {field.name: getattr(config, field.name) for field in fields(SchedulerConfig)}
        return {
            "type": "header",
            "format": FORMAT,
            "model": model,
            "scheduler": {**scheduler, "num_blocks": num_blocks},
        }

    def encode(self, observation: Observation) -> dict[str, Any] | None:
        """One line; None for what concerns a request that came in before the recorder did."""
        if isinstance(observation, StepReport):
            return self._step(observation)
        return self._request(observation) if isinstance(observation, Request) else self._end(observation)

    def _request(self, request: Request) -> dict[str, Any]:
        self._numbers[request.id] = self._count
        self._count += 1
        self._time = max(self._time, request.arrival)
        return {
            "type": "request",
            "arrival": round(request.arrival, 6),
            "prompt_tokens": len(request.prompt_tokens),
            "max_tokens": request.sampling.max_tokens,
            "tenant": request.tenant,
            "priority": request.priority,
            "deadline": request.deadline,
            "prefix": list(content(request)),
        }

    def _step(self, report: StepReport) -> dict[str, Any]:
        self._time = report.start + report.duration
        numbers = self._numbers
        work = [
            [numbers[item.id], item.kind[0], item.tokens, item.start, int(item.samples)]
            for item in report.work
            if item.id in numbers
        ]
        for name, number in self._over:
            if numbers.get(name) == number:  # else the id is in use again
                del numbers[name]
        self._over.clear()
        return {
            "type": "step",
            "start": round(report.start, 6),
            "duration": round(report.duration, 6),
            "work": work,
            "waiting": report.waiting,
            "running": report.running,
            "kv_used": report.kv_used,
            "kv_cached": report.kv_cached,
            "preemptions": report.preemptions,
            "passes": report.passes,
        }

    def _end(self, end: Finished) -> dict[str, Any] | None:
        if end.request_id not in self._numbers:
            return None
        number = self._numbers[end.request_id]
        self._over.append((end.request_id, number))  # the step that brought the end is reported after it
        return {
            "type": "end",
            "request": number,
            "time": round(self._time, 6),
            "reason": end.reason,
            "output_tokens": end.completion_tokens,
            "cached_tokens": end.cached_tokens,
        }


def content(request: Request) -> Iterator[int]:
    """One number per full block of the prompt, see `recording`."""
    tokens = list(request.prompt_tokens)
    chain = BlockChain(tokens, (request.tenant,), PREFIX_BLOCK, request.shown)
    for index in range(len(tokens) // PREFIX_BLOCK):
        yield int.from_bytes(chain.digest(index)[: CONTENT_BITS // 8], "big")


class StepRecorder:
    """An engine observer: `EngineLoop(..., observer=recorder)`. Keeps the newest `limit` observations in memory."""

    def __init__(self, limit: int = 100_000) -> None:
        self._observations: deque[Observation] = deque(maxlen=limit)

    def __call__(self, observation: Observation) -> None:
        self._observations.append(observation)

    @property
    def observations(self) -> list[Observation]:
        """A copy, oldest first."""
        return list(self._observations)

    @property
    def reports(self) -> list[StepReport]:
        """The steps, oldest first."""
        return [seen for seen in self.observations if isinstance(seen, StepReport)]

    def recording(self, config: SchedulerConfig, num_blocks: int) -> Recording:
        """Everything kept, as if it had been written to a file and read again."""
        encoder = Encoder()
        lines = [encoder.header(config, num_blocks=num_blocks)]
        lines += filter(None, map(encoder.encode, self.observations))
        return Recording.parse(lines)

    def clear(self) -> None:
        self._observations.clear()


class FileRecorder:
    """An engine observer that writes JSON lines, at most `limit` bytes of them; then it says so and stops, as when the disk is full.

    What is written reaches the disk whenever nothing runs any more, and on `close`. Raises OSError when `path` cannot be
    opened.
    """

    def __init__(self, path: Path, *, limit: int = 2**30) -> None:
        self._path = path
        self._room = limit
        self._file = path.open("w", encoding="ascii", buffering=2**16)
        self._encoder = Encoder()

    def begin(self, config: SchedulerConfig, *, num_blocks: int, model: str = "") -> None:
        """Write the header; call it once, before the engine starts."""
        self._write(self._encoder.header(config, num_blocks=num_blocks, model=model))

    def __call__(self, observation: Observation) -> None:
        if self._file.closed:
            return
        line = self._encoder.encode(observation)
        if line is not None:
            self._write(line)
        if isinstance(observation, StepReport) and not observation.running and not self._file.closed:
            self._try(self._file.flush)

    def close(self) -> None:
        """Write out what is left. Safe more than once."""
        self._try(self._file.close)

    def _write(self, line: dict[str, Any]) -> None:
        text = json.dumps(line, separators=(",", ":")) + "\n"
        self._room -= len(text)
        if self._room < 0:
            log.warning("%s has reached its limit: recording ends here", self._path)
            self.close()
        else:
            self._try(partial(self._file.write, text))

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            log.error("cannot write %s (%s): recording ends here", self._path, error.strerror)
            with suppress(OSError):  # what is left in the buffer has no room either; the file is closed all the same
                self._file.close()
