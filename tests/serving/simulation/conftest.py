"""A real engine on a real tiny model, in a time that only steps move: every run of it is the same."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from serving.application.engine import EngineLoop
from serving.application.recorder import StepRecorder
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend
from serving.simulation.steptime import StepTimeModel

STEP_TIME = StepTimeModel(base=1e-2, per_token=1e-3, per_position=1e-5, per_sequence=2e-4)


def request(job, started) -> Request:
    """What a client would send; `started` in the engine's time."""
    asked = SamplingParams(temperature=0.0, max_tokens=job.output_tokens)
    return Request(str(job.number), job.tokens(), asked, started + job.arrival, job.priority, job.tenant)


class TimedBackend:
    """Its steps take as long as a model of them says, and bring the requests that have arrived meanwhile."""

    def __init__(self, backend, jobs, step_time):
        self._backend, self._step_time = backend, step_time
        self.jobs, self.streams, self.engine, self.now = list(jobs), [], None, 1000.0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def clock(self) -> float:
        return self.now

    def submit_due(self) -> None:
        """What has arrived by now; called on the engine's thread, whose next step then sees it."""
        while self.jobs and 1000.0 + self.jobs[0].arrival <= self.now:
            job = self.jobs.pop(0)
            self.streams.append(self.engine.submit(request(job, 1000.0)))

    def execute(self, batch):
        logits = self._backend.execute(batch)
        tokens = sum(len(part.tokens) for part in batch)
        kv_read = sum(part.start + len(part.tokens) for part in batch)
        self.now += self._step_time(tokens, kv_read, len(batch))
        self.submit_due()
        return logits


@pytest.fixture(scope="session")
def tiny():
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=1, max_position_embeddings=512, **sizes))


@pytest.fixture(scope="session")
def run_timed(tiny):
    """Run jobs that never leave the engine idle before the last has come; returns the recording."""

    def run(config, jobs, step_time=STEP_TIME):
        backend = PackedTorchBackend(tiny, num_blocks=config.num_blocks, block_size=config.block_size)
        backend = TimedBackend(backend, jobs, step_time)
        recorder = StepRecorder()
        sampler = VectorSampler()
        engine = EngineLoop(backend, sampler, config, context_length=512, observer=recorder, clock=backend.clock)
        backend.engine = engine.start()
        try:
            engine.pause()
            backend.submit_due()
            engine.resume()
            done = 0
            while done < len(backend.streams) or backend.jobs:
                while not isinstance(backend.streams[done].next(30.0)[-1], Finished):
                    pass
                done += 1
        finally:
            engine.close()
        return recorder.recording(config, config.num_blocks), recorder.reports

    return run
