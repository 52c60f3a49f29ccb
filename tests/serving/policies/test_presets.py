"""What sets each policy apart from the others."""

from __future__ import annotations

import pytest

from serving.domain.config import SchedulerConfig
from serving.domain.plan import SequenceView
from serving.domain.policies import make_policy

from .support import Driver, prompt_of


def first_tokens(driver) -> list[str]:
    """Names in the order of their first tokens."""
    return sorted(driver.first_token, key=lambda name: driver.first_token[name])


def jain(shares) -> float:
    """Jain's fairness index: 1 when all are equal, 1/n when one has everything."""
    shares = list(shares)
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


def test_mixed_chunked_never_lets_a_prompt_hold_up_the_decodes():
    driver = Driver("mixed-chunked", 64, mixed_prefill_tokens=5)
    talking = [driver.submit(prompt_of(index, 4), 30) for index in range(2)]
    driver.step()
    driver.submit(prompt_of(5, 40), 2)
    for _ in range(8):
        report = driver.step()
        work = {item.id: (item.kind, item.tokens) for item in report.work}
        assert all(work[name] == ("decode", 1) for name in talking)
        assert work["2"] == ("prefill", 5), "the prompt gets the rest, a chunk at a time"


def test_mixed_chunked_fills_the_step_when_nobody_decodes():
    driver = Driver("mixed-chunked", 64, mixed_prefill_tokens=5)
    driver.submit(prompt_of(0, 40))
    assert driver.step().tokens == 16


def test_who_would_get_no_token_is_not_admitted():
    driver = Driver("mixed-chunked", 64)
    for index in range(4):
        driver.submit(prompt_of(index, 12))
    driver.step()
    assert driver.scheduler.num_running == 2, "16 tokens reach two prompts of 12"


def test_priority_serves_the_important_first_and_ageing_lets_the_others_catch_up():
    order = {}
    for rate in (0.0, 1000.0):
        driver = Driver("priority", max_num_seqs=1, ageing_rate=rate)
        driver.submit(prompt_of(9, 4), name="running")
        for name, priority in (("low", 5), ("middle", 3), ("high", 0)):
            driver.now += 0.01
            driver.submit(prompt_of(1, 4), name=name, priority=priority)
        driver.finish()
        order[rate] = first_tokens(driver)
    assert order[0.0] == ["running", "high", "middle", "low"]
    assert order[1000.0] == ["running", "low", "middle", "high"], (
        "at a thousand levels a second it is first come, first served"
    )


def test_priority_takes_memory_from_the_least_important():
    driver = Driver("priority", 10, watermark=0.0, expected_output=1, ageing_rate=0.0)
    driver.submit(prompt_of(0, 6), 20, name="low", priority=9)
    for index in range(3):
        driver.submit(prompt_of(1 + index, 6), 20, name=f"high{index}", priority=index)
    driver.finish()
    driver.check()
    assert driver.asked["low"].preemptions > 0 == driver.asked["high0"].preemptions


def test_sjf_serves_the_short_first_and_lets_waiting_count():
    driver = Driver("sjf", max_num_seqs=1)
    driver.submit(prompt_of(0, 4), 4, name="running")
    driver.step()
    driver.submit(prompt_of(1, 28), 14, name="long")
    driver.submit(prompt_of(2, 4), 2, name="short")
    driver.finish()
    assert first_tokens(driver) == ["running", "short", "long"]
    patient = Driver("sjf", max_num_seqs=1)
    patient.submit(prompt_of(1, 28), 14, name="long")
    patient.now += 100.0
    patient.submit(prompt_of(2, 4), 2, name="short")
    patient.finish()
    assert first_tokens(patient) == ["long", "short"]


def test_sjf_counts_a_cached_prefix_as_work_done():
    driver = Driver("sjf", 64, max_num_seqs=1)
    driver.submit(prompt_of(1, 40), 1, name="known")
    driver.finish()
    driver.now += 1.0
    driver.submit(prompt_of(2, 20), 2, name="short but new")
    driver.submit(prompt_of(1, 40), 2, name="long but cached")
    driver.now += 1.0
    driver.finish()
    assert first_tokens(driver) == ["known", "long but cached", "short but new"]


@pytest.mark.parametrize("policy, lowest, highest", [("fair", 0.9, 1.0), ("mixed-chunked", 0.0, 0.75)])
def test_fair_shares_the_machine_under_a_ten_to_one_skew(policy, lowest, highest):
    """One tenant sends ten times as much as each of the two others: shares while all have requests waiting."""
    driver = Driver(policy, 64)
    for round_ in range(40):
        for copy in range(10):
            driver.submit(prompt_of(10 * round_ + copy, 8), 6, tenant="greedy")
        for tenant in ("modest", "polite"):
            driver.submit(prompt_of(1000 + round_, 8), 6, tenant=tenant)
    for _ in range(120):
        driver.step()
    waiting = {sequence.tenant for sequence in driver.scheduler.view().waiting}
    assert policy != "fair" or waiting == {"greedy", "modest", "polite"}, "the comparison needs contention to the end"
    assert lowest <= jain(driver.served[tenant] for tenant in ("greedy", "modest", "polite")) <= highest


def test_fair_follows_the_weights():
    driver = Driver("fair", 64, tenant_weights="gold=3")
    for index in range(200):
        driver.submit(prompt_of(index, 8), 6, tenant="gold")
        driver.submit(prompt_of(500 + index, 8), 6, tenant="iron")
    for _ in range(250):
        driver.step()
    assert driver.served["gold"] / driver.served["iron"] == pytest.approx(3, rel=0.15)


def test_slo_serves_the_nearest_deadline_first_and_the_hopeless_last():
    driver = Driver("slo", 64, max_num_seqs=1, slo_ttft=1.0)
    driver.submit(prompt_of(0, 4), 4, name="running")
    driver.step()
    driver.submit(prompt_of(1, 8), 4, name="relaxed", deadline=driver.now + 50.0)
    driver.submit(prompt_of(2, 8), 4, name="urgent", deadline=driver.now + 1.0)
    driver.submit(prompt_of(3, 8), 14, name="hopeless", deadline=driver.now + 0.02)
    driver.finish()
    assert driver.reasons["urgent"] == driver.reasons["relaxed"] == "length"
    assert first_tokens(driver)[:3] == ["running", "urgent", "relaxed"]


def test_slo_lets_a_missed_request_wait_but_not_for_ever():
    config = SchedulerConfig(slo_ttft=1.0, slo_patience=5.0)
    order = make_policy("slo", config).order
    late = SequenceView("late", 0.0, 0, "a", None, 8, 4, 0, 0, 8, 0, 0, 0)
    for now, first in ((0.5, "late"), (3.0, "new"), (7.0, "late")):
        new = late._replace(id="new", arrival=now)
        assert order.order([new, late], now)[0].id == first, now


def test_slo_paces_prompts_so_that_everybodys_next_token_is_on_time():
    """The step time is learned: after a while no step with a decode in it takes much longer than promised."""
    driver = Driver("slo", 256, max_num_batched_tokens=256, slo_tpot=0.02)
    late = []
    for index in range(60):
        driver.submit(prompt_of(index, 60), 20)
        for _ in range(3):
            report = driver.step()
            if index > 30 and any(item.kind == "decode" for item in report.work):
                late.append(report.duration > 1.1 * 0.02)
    assert late and not any(late)


def test_static_beats_nobody_but_is_simple():
    """Utilisation: places of a static batch idle until its longest member is done."""
    steps = {}
    for policy in ("static", "mixed-chunked"):
        driver = Driver(policy, 64)
        for index in range(12):
            driver.submit(prompt_of(index, 4), 2 if index % 4 else 14)
        count = 0
        while driver.busy:
            driver.step()
            count += 1
        steps[policy] = count
    assert steps["mixed-chunked"] < steps["static"]


def test_victims_are_a_knob():
    config = SchedulerConfig(victims="least-computed")
    assert type(make_policy("priority", config).victim).__name__ == "LeastComputed"
    assert type(make_policy("priority").victim).__name__ == "LastInOrder"
