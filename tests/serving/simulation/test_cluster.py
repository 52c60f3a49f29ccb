"""Many replicas: nothing is lost, routers do what their names say, and the same seed gives the same answer."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from lifecycle.errors import LifecycleError
from serving.application.recording import Recording, RequestRecord, StepRecord, WorkRecord
from serving.bench.workload import Job, Lengths, Traffic, prefix_repetition_jobs, random_jobs
from serving.domain.config import SchedulerConfig
from serving.simulation.cluster import simulate
from serving.simulation.routers import ROUTERS
from serving.simulation.steptime import StepTimeModel, fit

CONFIG = SchedulerConfig(num_blocks=128, max_num_seqs=8, max_num_batched_tokens=128, queue_limit=10**6)
STEP = StepTimeModel(base=1e-2, per_token=1e-4, per_position=0.0, per_sequence=0.0)


def traffic(**fields):
    return Traffic(**{"rate": 40.0, **fields})


@pytest.mark.parametrize("router", ROUTERS)
def test_every_request_ends_once_on_some_replica(router):
    asked = list(random_jobs(300, Lengths(40, 10, 0.5), traffic(tenants=(3, 1))))
    outcome = simulate(asked, CONFIG, STEP, replicas=7, router=router)
    found = outcome.latencies
    assert (found.completed, outcome.refused, outcome.expired) == (300, 0, 0)
    assert found.prompt_tokens == sum(job.prompt_tokens for job in asked)
    assert found.output_tokens == sum(job.output_tokens for job in asked)
    assert found.itl.count == found.output_tokens - 300
    assert 0.5 <= outcome.fairness <= 1


def test_the_same_jobs_give_the_same_figures():
    runs = [simulate(random_jobs(200, Lengths(40, 10, 0.5), traffic()), CONFIG, STEP, replicas=3) for _ in range(2)]
    assert len({str(run.latencies.figures()) for run in runs}) == 1


def test_round_robin_takes_turns():
    outcome = simulate(
        random_jobs(30, Lengths(16, 4), Traffic()), CONFIG, STEP, replicas=3, observer=(seen := []).append
    )
    assert outcome.latencies.completed == 30
    first = [{int(item.id) for item in report.work} for report in seen[:3]]
    assert [{number % 3 for number in batch} for batch in first] == [{0}, {1}, {2}]


def test_least_loaded_spares_those_behind_a_long_answer():
    """Every other request is a hundred times as long; taking turns gives all of those to the same replica."""

    def asked():
        return (Job(n, n * 0.05, 16, 400 if n % 2 else 4) for n in range(80))

    small = SchedulerConfig(num_blocks=64, max_num_seqs=2, max_num_batched_tokens=64, queue_limit=10**6)
    p90 = {
        name: simulate(asked(), small, STEP, replicas=2, router=name).latencies.ttft.quantile(0.9) for name in ROUTERS
    }
    assert p90["least-loaded"] < p90["round-robin"]


def test_prefix_affinity_computes_less_than_the_others():
    cached = {}
    for router in ROUTERS:
        asked = prefix_repetition_jobs(
            400, Lengths(16, 8), traffic(rate=60), prefix_tokens=256, num_prefixes=40, seed=2
        )
        outcome = simulate(asked, CONFIG, STEP, replicas=8, router=router)
        assert outcome.latencies.completed == 400
        cached[router] = outcome.cached_tokens
    assert cached["prefix-affinity"] > 1.5 * max(cached["round-robin"], cached["least-loaded"])


def test_without_prefix_caching_everything_is_computed():
    asked = list(prefix_repetition_jobs(30, Lengths(16, 8), traffic(), prefix_tokens=64))
    cached, computed = (simulate(asked, replace(CONFIG, prefix_caching=on), STEP) for on in (True, False))
    assert cached.cached_tokens > 0 == computed.cached_tokens
    assert computed.tokens - cached.tokens == cached.cached_tokens
    assert computed.tokens == sum(job.prompt_tokens + job.output_tokens - 1 for job in asked)


def test_prefix_affinity_does_not_drown_one_replica():
    asked = prefix_repetition_jobs(200, Lengths(16, 32), Traffic(), prefix_tokens=64, num_prefixes=1)
    seconds = simulate(asked, CONFIG, STEP, replicas=4, router="prefix-affinity").latencies.duration
    asked = prefix_repetition_jobs(200, Lengths(16, 32), Traffic(), prefix_tokens=64, num_prefixes=1)
    assert seconds < 0.5 * simulate(asked, CONFIG, STEP, replicas=1).latencies.duration


def test_more_replicas_are_never_slower_and_a_lone_request_takes_what_its_steps_take():
    durations = [
        simulate(random_jobs(120, Lengths(40, 10), Traffic()), CONFIG, STEP, replicas=count).latencies.duration
        for count in (1, 2, 4, 8)
    ]
    assert all(fewer > more for fewer, more in itertools.pairwise(durations))
    lone = simulate([Job(0, 5.0, 40, 10)], CONFIG, STEP).latencies
    assert lone.ttft.mean == pytest.approx(STEP(40, 40, 1))
    assert lone.tpot.mean == pytest.approx(STEP(1, 40, 1))
    assert lone.e2el.mean == pytest.approx(STEP(40, 40, 1) + 9 * STEP(1, 40, 1))


def test_what_an_engine_would_refuse_is_counted():
    asked = [Job(0, 0.0, 3000, 10), *(Job(n, 0.0, 16, 4) for n in range(1, 20))]
    tight = SchedulerConfig(num_blocks=128, max_num_seqs=2, max_num_batched_tokens=128, queue_limit=3)
    outcome = simulate(asked, tight, STEP)
    assert outcome.refused == 15 and outcome.latencies.completed == 5


def test_a_deadline_ends_a_request():
    outcome = simulate([Job(0, 0.0, 16, 100, deadline=0.1), Job(1, 0.0, 16, 2)], CONFIG, STEP)
    assert (outcome.expired, outcome.latencies.completed) == (1, 1)


def test_goodput_counts_who_kept_every_promise():
    asked = list(random_jobs(50, Lengths(40, 10), Traffic()))
    strict = simulate(asked, CONFIG, STEP, slo={"ttft": 0.05, "tpot": 10.0}).latencies
    ttft = simulate(asked, CONFIG, STEP).latencies.ttft
    share = strict.good / strict.completed
    assert 0 < share < 1
    assert ttft.quantile(share) <= 0.05 < ttft.quantile(share + 0.02)


def test_fairness_is_one_for_a_single_tenant_and_low_for_a_crowd():
    alone = simulate(random_jobs(60, Lengths(40, 10), Traffic()), CONFIG, STEP)
    crowd = simulate(random_jobs(200, Lengths(40, 10), Traffic(tenants=(10, 1))), CONFIG, STEP)
    assert alone.fairness == 1.0 and crowd.fairness < 0.75


def test_an_unknown_router_names_the_near_miss():
    with pytest.raises(LifecycleError, match='mean "least-loaded"'):
        simulate([], CONFIG, STEP, router="least-load")


def test_a_recording_too_short_to_fit_is_refused_and_no_cost_is_negative():
    with pytest.raises(LifecycleError, match="at least 8"):
        fit(Recording({}, (), ()))
    steps = tuple(  # the more, the faster: no model of this form says so
        StepRecord(float(n), 1 - n / 100, (WorkRecord(0, "decode", n + 1, 0, True),), 0, 0, 0, 0, 0) for n in range(20)
    )
    request = RequestRecord(0, 0.0, 1, 1, "a", 0, None, ())
    model = fit(Recording({}, (request,), steps)).model
    assert min(model.base, model.per_token, model.per_position, model.per_sequence) >= 0


def test_several_passes_in_one_step_cost_what_they_cost_one_by_one():
    """What a recording says of a pass does not depend on how often the engine looked around."""

    def recording(passes: int) -> Recording:
        steps, now = [], 0.0
        for n in range(24):
            streams, position = 1 + n % 8, 40 * n
            # Kept apart from what the fit assumes of a step's positions: those of its last pass.
            seconds = passes * STEP(streams, streams * (position + passes), streams)
            work = tuple(WorkRecord(0, "decode", passes, position, True) for _ in range(streams))
            steps.append(StepRecord(now, seconds, work, 0, streams, 0, 0, 0, passes))
            now += seconds
        return Recording({}, (RequestRecord(0, 0.0, 1, 1, "a", 0, None, ()),), tuple(steps))

    single, several = (fit(recording(passes)).model for passes in (1, 16))
    for streams, position in ((1, 100), (8, 900)):
        expected = STEP(streams, streams * position, streams)
        assert single(streams, streams * position, streams) == pytest.approx(expected, rel=1e-6)
        assert several(streams, streams * position, streams) == pytest.approx(expected, rel=1e-6)
