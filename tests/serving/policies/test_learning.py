"""What policies learn: answer lengths, step times, tenants' shares."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.config import SchedulerConfig
from serving.domain.learning import OutputLengths, StepTime, TenantService
from serving.domain.plan import SequenceView, SequenceWork, StepReport

VIEW = SequenceView("s", 0.0, 0, "a", None, 10, 1000, 0, 0, 10, 0, 0, 0)
REPORT = StepReport(1, 0.0, 0.0, (), 0, 0, 0, 0, 1, 0)


def step(tokens, context, duration):
    work = (SequenceWork("s", "decode", tokens, context - tokens, True),)
    return replace(REPORT, work=work, duration=duration)


def test_step_times_are_found_again_from_noisy_steps():
    rng, time = random.Random(1), StepTime()
    base, per_token, per_kv = 3e-3, 4e-4, 2e-6
    for _ in range(400):
        tokens, context = rng.randint(1, 256), rng.randint(256, 20_000)
        exact = base + per_token * tokens + per_kv * context
        time.observe(step(tokens, context, exact * rng.uniform(0.95, 1.05)))
    for tokens, context in ((1, 300), (32, 8000), (256, 20_000)):
        assert time.predict(tokens, context) == pytest.approx(
            base + per_token * tokens + per_kv * context, rel=0.1, abs=1e-3
        )
    seconds = time.predict(100, 5000)
    assert time.tokens_within(seconds, 5000) in (99, 100)
    assert time.tokens_within(0.0, 5000) == 0


@given(st.lists(st.tuples(st.integers(1, 64), st.integers(64, 4096), st.floats(0, 10)), max_size=30))
def test_no_sequence_of_steps_makes_a_coefficient_negative(steps):
    time = StepTime()
    for tokens, context, duration in steps:
        time.observe(step(tokens, context, duration))
        assert all(coefficient >= 0 for coefficient in time.coefficients)


def test_step_times_follow_a_machine_that_becomes_slower():
    time = StepTime()
    for slow in (1.0, 3.0):
        for index in range(3000):
            tokens = 1 + index % 50
            time.observe(step(tokens, 1000, slow * (0.01 + 0.001 * tokens)))
    assert time.predict(20, 1000) == pytest.approx(0.09, rel=0.1)


def lengths(*seen, **knobs) -> OutputLengths:
    learned = OutputLengths(SchedulerConfig(**knobs))
    learned.observe(replace(REPORT, finished=seen))
    return learned


def test_answers_are_expected_as_long_as_others_were():
    learned = lengths(*range(1, 101))
    assert learned.remaining(VIEW) == 90
    assert learned.remaining(VIEW._replace(generated=50)) in (45, 46), "given that it is longer than 50"
    assert learned.remaining(VIEW._replace(max_tokens=20)) == 20, "never more than it may"
    assert lengths(*range(1, 101), output_quantile=0.0).remaining(VIEW) == 1


def test_without_experience_a_guess_is_all_there_is():
    assert lengths(expected_output=64).remaining(VIEW) == 64
    assert lengths(expected_output=64).remaining(VIEW._replace(generated=100)) == 100, "expect as much again"
    assert lengths(5, 5, 5).remaining(VIEW._replace(generated=5)) == 256


def test_a_sequence_that_was_preempted_is_expected_to_use_all_that_it_may():
    assert lengths(1, 2, 3).remaining(VIEW._replace(generated=10, preemptions=1)) == 990


def test_only_the_newest_answers_count():
    learned = lengths(*[900] * OutputLengths.MEMORY)
    learned.observe(replace(REPORT, finished=(7,) * OutputLengths.MEMORY))
    assert learned.remaining(VIEW) == 7


def served(service, tenant, tokens, active):
    work = (SequenceWork("s", "prefill", tokens, 0, False, tenant),)
    service.observe(replace(REPORT, work=work, tenants=active))


def test_idling_saves_nothing_up():
    service = TenantService(SchedulerConfig())
    for _ in range(10):
        served(service, "busy", 100, ("busy",))
    assert service.level("new") == service.level("busy") == 1000
    served(service, "busy", 100, ("busy", "new"))
    assert (service.level("busy"), service.level("new")) == (1100, 1000)
    assert service.level("busy") - service.level("never seen") <= 100


def test_what_one_has_had_too_much_is_not_forgotten_by_leaving_for_a_moment():
    service = TenantService(SchedulerConfig())
    served(service, "greedy", 10, ("greedy", "modest"))
    served(service, "greedy", 990, ("greedy", "modest"))
    served(service, "modest", 10, ("modest",))
    assert service.level("greedy") == 1000 > service.level("modest")


def test_tenants_that_come_and_go_leave_nothing_behind():
    service = TenantService(SchedulerConfig())
    for index in range(1000):
        served(service, f"t{index}", 10, ("steady", f"t{index}"))
        served(service, "steady", 20, ("steady",))
    assert len(service._served) < 10


def test_a_step_of_many_passes_teaches_what_one_pass_takes():
    single, many = StepTime(), StepTime()
    for index in range(300):
        tokens = 1 + index % 50
        seconds = 0.002 + 0.0001 * tokens
        single.observe(step(tokens, 1000, seconds))
        many.observe(replace(step(8 * tokens, 1000, 8 * seconds), passes=8))
    assert many.predict(20, 1000) == pytest.approx(single.predict(20, 1000), rel=0.05)
