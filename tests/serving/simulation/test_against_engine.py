"""The simulator is the engine without the model: the same steps, at the same times, for every policy."""

from __future__ import annotations

import random

import pytest

from serving.bench.workload import Job, recorded_jobs
from serving.domain.config import SchedulerConfig
from serving.domain.policies import policy_names
from serving.simulation.cluster import simulate
from serving.simulation.steptime import fit

from .conftest import STEP_TIME


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


def test_the_fit_finds_what_steps_cost(run_timed):
    recording, _ = run_timed(config("continuous-batched-prefill"), jobs())
    found = fit(recording)
    assert found.median_error < 1e-3 and abs(found.total_error) < 1e-9
    assert found.model(48, 300, 6) == pytest.approx(STEP_TIME(48, 300, 6), rel=0.01)
