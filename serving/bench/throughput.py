"""How many tokens a second the engine makes when there is always enough to do: in this process, without HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from serving.application.ports import TokenStream
from serving.application.recorder import StepRecorder
from serving.bench.metrics import Latencies
from serving.bench.workload import Job
from serving.domain.errors import InvalidRequest
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.config import ServingConfig

TICK = 0.2  # seconds between two looks at the progress
WARM_UP = Job(-1, 0.0, 16, 4)


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a run took, from the first request to the last token."""

    seconds: float
    latencies: Latencies

    def figures(self) -> dict[str, Any]:
        """Flat, for JSON. `output_tokens_per_s` is the number to compare."""
        found = self.latencies
        return {
            "elapsed_time": round(self.seconds, 4),
            "requests_per_s": round(found.completed / self.seconds, 3),
            "output_tokens_per_s": round(found.output_tokens / self.seconds, 2),
            "total_tokens_per_s": round((found.prompt_tokens + found.output_tokens) / self.seconds, 2),
            **found.figures(),
        }


def run(
    directory: Path,
    config: ServingConfig,
    jobs: Sequence[Job],
    *,
    record: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Throughput:
    """Load a checkpoint, warm it up with one short request, and let it answer all jobs, which arrive at once.

    Stop tokens are ignored: every answer is as long as its job says. `record` is written after the run; `progress` is
    called with how many more tokens there are. Raises LifecycleError when the model or a job does not fit.
    """
    from serving.composition import build_engine, open_recorder  # imports torch

    recorder = StepRecorder(limit=10_000_000)
    config = replace(config, queue_limit=max(config.queue_limit, len(jobs)))
    served = build_engine(directory, config, observer=recorder)
    with closing(served.engine) as engine:
        _wait(engine, [engine.submit(_request(WARM_UP))], None)
        engine.pause()
        recorder.clear()
        try:
            streams = [engine.submit(_request(job)) for job in jobs]
        except InvalidRequest as error:
            raise LifecycleError(f"this workload does not fit the model: {error}") from None
        started = time.perf_counter()
        engine.resume()
        _wait(engine, streams, progress)
        seconds = time.perf_counter() - started
        num_blocks = engine.stats().kv_total
    if record is not None:
        file = open_recorder(record)
        file.begin(config, num_blocks=num_blocks, model=served.version)
        for observation in recorder.observations:
            file(observation)
        file.close()
    return Throughput(seconds, Latencies.of(recorder.recording(config, num_blocks)))


def _request(job: Job) -> Request:
    return Request(
        f"bench-{job.number}",
        job.tokens(),
        SamplingParams(temperature=0.0, max_tokens=job.output_tokens),
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
