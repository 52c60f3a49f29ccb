"""The engine in this process, without HTTP: load a model, let requests arrive, keep what happened."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from serving.application.ports import TokenStream
from serving.application.recorder import StepRecorder
from serving.application.recording import Recording
from serving.bench.metrics import Latencies
from serving.bench.workload import Job
from serving.domain.errors import InvalidRequest
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.config import ServingConfig

TICK = 0.2  # seconds between two looks at the progress
WARM_UP = Job(-1, 0.0, 16, 4)


@dataclass(frozen=True, slots=True)
class Run:
    """What a run took, from the first arrival to the last token, and everything that happened in it."""

    seconds: float
    recording: Recording
    parts: Mapping[str, float]
    """Seconds that each part of the engine's steps took, in their order."""

    def throughput(self) -> dict[str, Any]:
        """Flat, for JSON. `output_tokens_per_s` is the number to compare."""
        found = Latencies.of(self.recording)
        return {
            "elapsed_time": round(self.seconds, 4),
            "requests_per_s": round(found.completed / self.seconds, 3),
            "output_tokens_per_s": round(found.output_tokens / self.seconds, 2),
            "total_tokens_per_s": round((found.prompt_tokens + found.output_tokens) / self.seconds, 2),
            **found.figures(),
            "parts": {name: round(seconds, 4) for name, seconds in self.parts.items()},
        }


def run(
    directory: Path,
    config: ServingConfig,
    jobs: Sequence[Job],
    *,
    sampling: Mapping[str, float] | None = None,
    record: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Run:
    """Load a checkpoint, warm it up with one short request, and let jobs arrive when they are due, and all be answered.

    Stop tokens are ignored: every answer is as long as its job says. `sampling`: fields of `SamplingParams`, greedy by default. `record` is written after the run; `progress` is
    called with how many more tokens there are. Raises LifecycleError when the model or a job does not fit.
    """
    from serving.composition import build_engine, open_recorder  # imports torch

    file = None if record is None else open_recorder(record)  # what cannot be written is known before anything is measured
    recorder = StepRecorder(limit=10_000_000)
    config = replace(config, queue_limit=max(config.queue_limit, len(jobs)))
    served = build_engine(directory, config, observer=recorder)
    with closing(served.engine) as engine:
        _wait(engine, [engine.submit(_request(WARM_UP, 0.0, sampling or {}))], None)
        recorder.clear()
        before = engine.stats().parts
        started = time.monotonic()
        streams = _submit(engine, jobs, started, sampling or {})
        _wait(engine, streams, progress)
        seconds = time.monotonic() - started
        after = engine.stats()
        num_blocks = after.kv_total
    if file is not None:
        file.begin(config, num_blocks=num_blocks, model=served.version)
        for observation in recorder.observations:
            file(observation)
        file.close()
    parts = {name: spent - before[name] for name, spent in after.parts.items()}
    return Run(seconds, recorder.recording(config, num_blocks), parts)


def _submit(engine: Any, jobs: Sequence[Job], started: float, sampling: Mapping[str, float]) -> list[TokenStream]:
    """In order of arrival. Those that are there from the beginning are there before the first step."""
    requests = [_request(job, started, sampling) for job in jobs]
    engine.pause()
    try:
        streams = [engine.submit(request) for request in requests if request.arrival <= started]
        engine.resume()
        for request in requests[len(streams) :]:
            time.sleep(max(0.0, request.arrival - time.monotonic()))
            streams.append(engine.submit(request))
    except InvalidRequest as error:
        raise LifecycleError(f"this workload does not fit the model: {error}") from None
    return streams


def _request(job: Job, started: float, sampling: Mapping[str, float]) -> Request:
    return Request(
        f"bench-{job.number}",
        job.tokens(),
        SamplingParams(**{"temperature": 0.0, "seed": job.number + 1, **sampling}, max_tokens=job.output_tokens),
        arrival=started + job.arrival,
        priority=job.priority,
        tenant=job.tenant,
    )


def _wait(engine: Any, streams: list[TokenStream], progress: Callable[[int], None] | None) -> None:
    """Read every answer to its end; one after the other is enough, as mailboxes keep the rest."""
    told = engine.stats().generated_tokens
    for stream in streams:
        end = None
        while not isinstance(end, Finished):
            end = (stream.next(TICK) or [None])[-1]
            if not engine.healthy():
                raise LifecycleError("the engine has stopped working; its log has the details")
            if progress is not None:
                now = engine.stats().generated_tokens
                progress(now - told)
                told = now
        if end.reason != "length":
            raise LifecycleError(f"a request ended with {end.error or end.reason}: these figures would be wrong")
