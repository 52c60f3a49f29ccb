"""When a version on trial is taken back, and who is sent to it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from serving.application.canary import Windows
from serving.domain.canary import CanaryRules, Outcome, Sample, chosen, judge, summarize
from serving.infrastructure.config import ServingConfig

RULES = CanaryRules(canary_requests=20, canary_errors=2.0, canary_latency=1.5)
FINE = Sample(100, 1, 0.1, 0.02)
keys, percents = st.text(max_size=8), st.floats(0, 100)


@given(keys, keys, percents, percents)
def test_who_is_chosen_stays_chosen_as_the_share_grows(key, salt, one, other):
    small, large = sorted((one, other))
    assert chosen(key, salt, small) <= chosen(key, salt, large)
    assert chosen(key, salt, 100) and not chosen(key, salt, 0)


def test_the_share_is_about_the_percentage_and_another_version_has_another_share():
    picked = [{key for key in map(str, range(4000)) if chosen(key, salt, 10)} for salt in ("deploy/2", "deploy/3")]
    assert all(300 < len(some) < 500 for some in picked) and len(picked[0] & picked[1]) < 100


@given(st.integers(0, 400), st.integers(0, 400))
def test_a_version_that_does_like_the_other_stays(requests, failures):
    sample = Sample(requests, min(failures, requests), 0.1, 0.02)
    assert judge(sample, sample, RULES) is None


@given(st.integers(0, 19), st.integers(0, 19))
def test_too_few_requests_say_nothing_unless_all_fail(requests, failures):
    sample = Sample(requests, min(failures, requests - 1) if requests else 0, 9.0, 9.0)
    assert judge(sample, FINE, RULES) is None and judge(FINE, sample, RULES) is None
    assert judge(Sample(5, 5), FINE, RULES) == "all of its 5 requests failed"
    assert judge(Sample(4, 4), FINE, RULES) is None and judge(Sample(5, 5), Sample(5, 5), RULES) is None


def test_failures_count_beyond_the_margin_and_beyond_chance():
    assert judge(replace(FINE, failures=20), FINE, RULES) == "20.0% of its 100 requests failed, against 1.0%"
    assert judge(replace(FINE, failures=5), FINE, RULES) is None, "four more may be chance"
    assert judge(Sample(10_000, 150, 0.1, 0.02), Sample(10_000, 10, 0.1, 0.02), RULES) is None, "sure, but within the points"


@pytest.mark.parametrize(("field", "name"), [("first_token", "first token"), ("per_token", "gap between tokens")])
def test_latencies_count_beyond_their_factor(field, name):
    slow = replace(FINE, **{field: getattr(FINE, field) * 1.6})
    assert name in judge(slow, FINE, RULES) and judge(FINE, slow, RULES) is None
    assert judge(replace(slow, **{field: getattr(FINE, field) * 1.4}), FINE, RULES) is None
    assert judge(replace(slow, **{field: None}), FINE, RULES) is None


def test_a_sample_is_medians_of_what_there_is():
    outcomes = [Outcome(True), Outcome(False, 0.1), Outcome(False, 0.3, 0.01), Outcome(False, 0.2, 0.03)]
    assert summarize(outcomes) == Sample(4, 1, 0.2, 0.02) and summarize([]) == Sample()


def test_the_window_forgets():
    now = [0.0]
    windows = Windows(10, clock=lambda: now[0])
    windows.add("a", Outcome(True))
    now[0] = 5.0
    windows.add("a", Outcome(False))
    assert windows.sample("a").requests == 2 and windows.sample("b").requests == 0
    now[0] = 12.0
    assert windows.sample("a") == Sample(1, 0)


@pytest.mark.parametrize(
    "wrong",
    [{"canary_percent": 101}, {"shadow_percent": -1}, {"canary_latency": 0.5}, {"canary_requests": 0}, {"canary_window": 0}],
)
def test_rules_that_cannot_work_are_refused_in_one_line(wrong):
    with pytest.raises(LifecycleError, match=f"{next(iter(wrong))}.*--set"):
        ServingConfig(**wrong)
