"""Workloads say what they promise: lengths, arrivals, shared prefixes; and a recording becomes the workload it was."""

from __future__ import annotations

import itertools
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.application.recorder import StepRecorder, content
from serving.application.recording import PREFIX_BLOCK
from serving.bench.workload import (
    FIRST_TOKEN,
    LAST_TOKEN,
    Job,
    Lengths,
    Traffic,
    prefix_repetition_jobs,
    random_jobs,
    recorded_jobs,
    with_rate,
)
from serving.domain.config import SchedulerConfig
from serving.domain.request import Request

LENGTHS = Lengths(40, 10, 0.5)


def shared(one, other):
    """Tokens that two prompts have in common at their beginning."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@given(
    prompt=st.integers(1, 80),
    blocks=st.integers(0, 4),
    number=st.integers(0, 10**7),
    kind=st.sampled_from(("tokens", "symbols")),
)
@settings(max_examples=60, deadline=None)
def test_a_prompt_is_as_long_as_said_and_shares_its_prefix_alone(prompt, blocks, number, kind):
    prefix = tuple(range(5, 5 + blocks))
    one, other = (getattr(Job(n, 0.0, prompt, 1, prefix=prefix), kind)() for n in (number, number + 1))
    assert len(one) == len(other) == prompt
    common = min(prompt, blocks * PREFIX_BLOCK)
    assert shared(one, other) >= common
    if kind == "symbols":
        assert shared(one, other) == common
    else:
        assert all(FIRST_TOKEN <= token <= LAST_TOKEN for token in one)


def test_the_same_seed_is_the_same_workload():
    for make in (random_jobs, lambda *a, **k: prefix_repetition_jobs(*a, prefix_tokens=64, num_prefixes=3, **k)):
        first, again, other = (list(make(50, LENGTHS, Traffic(rate=5.0), seed=seed)) for seed in (1, 1, 2))
        assert first == again != other
        assert [job.tokens() for job in first[:3]] == [job.tokens() for job in again[:3]]


def test_arrivals_are_a_poisson_process_of_the_rate_unless_burstier():
    def gaps(traffic):
        arrivals = [job.arrival for job in random_jobs(4000, LENGTHS, traffic)]
        return [after - before for before, after in itertools.pairwise(arrivals)]

    poisson, bursty = gaps(Traffic(rate=20.0)), gaps(Traffic(rate=20.0, burstiness=0.25))
    assert statistics.mean(poisson) == pytest.approx(0.05, rel=0.05)
    assert statistics.stdev(poisson) == pytest.approx(0.05, rel=0.1)
    assert statistics.mean(bursty) == pytest.approx(0.05, rel=0.1)
    assert statistics.stdev(bursty) == pytest.approx(0.1, rel=0.2)
    assert {job.arrival for job in random_jobs(9, LENGTHS, Traffic())} == {0.0}


def test_lengths_stay_within_their_spread():
    jobs = list(random_jobs(300, LENGTHS, Traffic()))
    assert (min(j.prompt_tokens for j in jobs), max(j.prompt_tokens for j in jobs)) == (20, 60)
    assert (min(j.output_tokens for j in jobs), max(j.output_tokens for j in jobs)) == (5, 15)
    assert {(j.prompt_tokens, j.output_tokens) for j in random_jobs(9, Lengths(7, 3), Traffic())} == {(7, 3)}


def test_tenants_ask_as_often_as_their_shares_say():
    jobs = list(random_jobs(2000, LENGTHS, Traffic(tenants=(10, 1), priorities=3)))
    assert sum(job.tenant == "tenant-1" for job in jobs) == pytest.approx(2000 / 11, rel=0.2)
    assert {job.priority for job in jobs} == {0, 1, 2}


def test_a_recording_becomes_the_workload_that_it_was(run_engine):
    jobs = list(prefix_repetition_jobs(12, LENGTHS, Traffic(tenants=(1, 1)), prefix_tokens=32, num_prefixes=2))
    config = SchedulerConfig(num_blocks=256, block_size=16, max_num_seqs=4, max_num_batched_tokens=64)
    recorder = StepRecorder()
    run_engine(config, [request(job) for job in jobs], recorder)
    again = recorded_jobs(recorder.recording(config, 256))
    assert [(j.prompt_tokens, j.output_tokens, j.tenant) for j in again] == [
        (j.prompt_tokens, j.output_tokens, j.tenant) for j in jobs
    ]
    for one, other in itertools.combinations(range(12), 2):
        was = shared(jobs[one].tokens(), jobs[other].tokens()) // PREFIX_BLOCK
        same_tenant = jobs[one].tenant == jobs[other].tenant
        now = shared(again[one].symbols(), again[other].symbols()) // PREFIX_BLOCK
        assert now == (was if same_tenant else 0)
    sped = recorded_jobs(recorder.recording(config, 256), speed=2.0)
    assert [job.arrival for job in sped] == pytest.approx([job.arrival / 2 for job in again])
    assert [job.arrival for job in with_rate(again, Traffic())] == [0.0] * 12


def test_content_has_one_number_per_full_block():
    for length in (1, 15, 16, 17, 32):
        assert len(list(content(Request("a", tuple(range(length)))))) == length // PREFIX_BLOCK


def request(job):
    from serving.domain.request import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=job.output_tokens)
    return Request(str(job.number), job.tokens(), sampling, tenant=job.tenant)
