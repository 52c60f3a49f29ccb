"""Admission by predicted peak memory: never more than promised, never less than fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.domain.admission import peak_blocks
from serving.domain.config import SchedulerConfig
from serving.domain.plan import Limits, SchedulerView, SequenceView
from serving.domain.policies import make_policy

from .support import POLICIES, Driver, prompt_of

SIZE = 4
members = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=8)


def blocks_at(time, sequences) -> int:
    """Blocks that (remaining, held) sequences hold after `time` steps, when those that are done have gone."""
    return sum(-(-(held + time) // SIZE) for rest, held in sequences if rest >= time)


@given(members)
def test_the_peak_is_an_upper_bound_and_a_tight_one(sequences):
    exact = max(blocks_at(time, sequences) for time in range(42))
    bound = peak_blocks(sorted((-rest, held) for rest, held in sequences), SIZE)
    assert exact <= bound <= exact + len(sequences)


def test_more_run_than_if_everybody_reserved_all_that_they_may_generate():
    driver = Driver("mixed-chunked", 40, max_num_seqs=16, max_num_batched_tokens=64, watermark=0.0, expected_output=200)
    for index in range(16):
        driver.submit(prompt_of(index, 4), 4 + 4 * (index % 8))  # 16 x (4 + up to 32) tokens; the pool holds 160
    most = 0
    while driver.busy:
        driver.step()
        most = max(most, driver.scheduler.num_running)
    driver.check()
    assert driver.scheduler.counters.preemptions == 0, "lengths were known, so nobody had to give way"
    reserved = 0
    for index in range(16):
        reserved += -(-(8 + 4 * (index % 8)) // SIZE)
        if reserved > 40:
            assert most > index
            break


def test_a_shared_prefix_is_paid_for_once():
    driver = Driver("mixed-chunked", 20, max_num_seqs=8, max_num_batched_tokens=64, watermark=0.0)
    prompt = prompt_of(0, 41)  # ten full blocks and one token
    driver.submit(prompt, 8)
    driver.step()
    for _ in range(3):
        driver.submit(prompt, 8)
    driver.step()
    assert driver.scheduler.num_running == 4
    driver.finish()
    driver.check()
    assert driver.scheduler.counters.preemptions == 0


def test_wrong_guesses_cost_each_sequence_its_memory_once_or_twice_not_again_and_again():
    """Everybody is expected to say one token and says forty: thrashing would preempt hundreds of times."""
    for policy in POLICIES:
        driver = Driver(policy, 24, max_num_seqs=8, expected_output=1, output_quantile=0.0)
        for index in range(40):
            driver.submit(prompt_of(index, 8), 1 if index % 8 else 40)
            driver.submit(prompt_of(100 + index, 8), 40)
        driver.finish()
        driver.check()
        assert driver.scheduler.counters.preemptions <= 2 * len(driver.asked), policy


def test_the_watermark_stays_free_when_others_join():
    view = SequenceView("s", 0.0, 0, "a", None, 16, 16, 0, 0, 16, 0, 0, 0)
    limits = Limits(8, 64, 0, SIZE, 40)
    for watermark, admitted in ((0.0, 4), (0.3, 3), (0.9, 1)):
        policy = make_policy("static", SchedulerConfig(watermark=watermark))
        queue = tuple(view._replace(id=str(index)) for index in range(8))
        plan = policy.plan(SchedulerView((), queue, 40), limits, 0.0)
        assert len(plan.admitted) == admitted, watermark
