"""The simulator is the engine without the model: the same steps, at the same times, for every policy."""

from __future__ import annotations

import random
import time
from contextlib import closing
from dataclasses import replace

import pytest

from serving.application.engine import EngineLoop
from serving.application.recorder import StepRecorder
from serving.bench.metrics import Latencies
from serving.bench.workload import Job, recorded_jobs
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.policies import policy_names
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend
from serving.simulation.cluster import simulate
from serving.simulation.steptime import fit

from .conftest import STEP_TIME, request


def jobs(seed=3, count=40):
    """A burst, then a steady stream: two tenants, three priorities, shared prefixes, and not enough memory for all."""
    rng = random.Random(seed)
    arrival = 0.0
    for number in range(count):
        arrival += rng.expovariate(40) if number >= 10 else 0.0
        tenant = rng.choice("aab")
        prefix = tuple(100 * "ab".index(tenant) + block for block in range(rng.randrange(3)))
        prompt = 16 * len(prefix) + rng.randint(1, 20)
        yield Job(number, arrival, prompt, rng.randint(8, 48), tenant, rng.randrange(3), prefix=prefix)


def config(policy, **knobs):
    sizes = {"max_num_seqs": 6, "max_num_batched_tokens": 48, "num_blocks": 40, "block_size": 4}
    knobs = {"expected_output": 1, "output_quantile": 0.0, "watermark": 0.0, **knobs}  # careless, so that it preempts
    return SchedulerConfig(policy=policy, **{**sizes, **knobs})


@pytest.mark.parametrize("policy", policy_names())
def test_every_step_is_the_engines(run_timed, policy):
    knobs = {"prefill_chunk": 20} if policy == "continuous" else {}
    _, real = run_timed(config(policy, **knobs), jobs())
    simulated = []
    outcome = simulate(jobs(), config(policy, **knobs), STEP_TIME, observer=simulated.append)
    assert [(r.work, r.waiting, r.kv_used, r.kv_cached) for r in simulated] == [
        (r.work, r.waiting, r.kv_used, r.kv_cached) for r in real
    ]
    assert outcome.latencies.completed == 40
    ends = [(r.start + r.duration - 1000.0) for r in real]
    assert [r.start + r.duration for r in simulated] == pytest.approx(ends)
    assert real[-1].preemptions, "not enough requests to run out of memory"


def test_a_recorded_run_is_replayed_step_by_step(run_timed):
    recording, real = run_timed(config("mixed-chunked"), jobs())
    replayed = []
    simulate(recorded_jobs(recording), config("mixed-chunked"), STEP_TIME, observer=replayed.append)
    assert [r.work for r in replayed] == [r.work for r in real]


def test_noisy_steps_are_foretold_within_a_seventh(run_timed):
    """Steps that follow the model only roughly, fitted from a recording: what clients wait is right within 15%."""
    rng = random.Random(0)

    def noisy(tokens, kv_read, sequences):
        dear = 5e-6 * tokens**2  # something that the fitted model has no term for
        return (STEP_TIME(tokens, kv_read, sequences) + dear) * rng.lognormvariate(0.0, 0.25)

    for policy in ("static", "continuous-batched-prefill", "mixed-chunked"):
        recording, _ = run_timed(config(policy), jobs(), noisy)
        measured = Latencies.of(recording).figures()
        predicted = simulate(recorded_jobs(recording), config(policy), fit(recording).model).latencies.figures()
        for figure in ("duration", "mean_ttft_ms", "p50_ttft_ms", "mean_tpot_ms", "mean_itl_ms", "mean_e2el_ms"):
            assert predicted[figure] == pytest.approx(measured[figure], rel=0.15), (policy, figure)


def test_a_live_run_is_replayed_with_its_plans_and_its_total(tiny):
    """A real clock this time; all requests are there before the first step, so that time decides nothing."""
    burst = [replace(job, arrival=0.0) for job in jobs()]
    recorder, started = StepRecorder(), time.monotonic()
    backend = PackedTorchBackend(tiny, num_blocks=40, block_size=4)
    with closing(EngineLoop(backend, VectorSampler(), config("fair"), context_length=512, observer=recorder)) as engine:
        engine.start().pause()
        streams = [engine.submit(request(job, started)) for job in burst]
        engine.resume()
        for stream in streams:
            while not isinstance(stream.next(30.0)[-1], Finished):
                pass
    recording = recorder.recording(config("fair"), 40)
    replayed = []
    simulate(recorded_jobs(recording), config("fair"), fit(recording).model, observer=replayed.append)
    assert [r.work for r in replayed] == [r.work for r in recorder.reports]
    measured = recording.steps[-1].end - recording.steps[0].start
    assert sum(report.duration for report in replayed) == pytest.approx(measured, rel=0.15)


def test_the_fit_finds_what_steps_cost(run_timed):
    recording, _ = run_timed(config("continuous-batched-prefill"), jobs())
    found = fit(recording)
    assert found.median_error < 1e-3 and abs(found.total_error) < 1e-9
    assert found.model(48, 300, 6) == pytest.approx(STEP_TIME(48, 300, 6), rel=0.01)
