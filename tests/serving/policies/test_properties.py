"""What holds for every policy under any load, preempted, cancelled, expired, swapped or not."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .support import BLOCK, POLICIES, Driver, prompt_of

submits = st.tuples(
    st.just("submit"),
    st.integers(0, 2),  # family of the prompt
    st.integers(1, 28),  # its length
    st.integers(1, 14),  # max_tokens
    st.sampled_from("abc"),  # tenant
    st.integers(0, 3),  # priority
    st.sampled_from((None, None, None, 0.05)),  # seconds until the deadline
)
operations = st.lists(
    st.one_of(
        submits,
        submits,
        st.tuples(st.just("step"), st.integers(1, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 30)),
        st.tuples(st.just("swap"), st.sampled_from(POLICIES)),
    ),
    max_size=40,
)


def play(driver: Driver, script, *, swaps: bool = True) -> None:
    for kind, *arguments in script:
        if kind == "submit":
            family, length, max_tokens, tenant, priority, seconds = arguments
            deadline = None if seconds is None else driver.now + seconds
            prompt = prompt_of(family, length)
            driver.submit(prompt, max_tokens, tenant=tenant, priority=priority, deadline=deadline)
        elif kind == "cancel":
            driver.cancel(str(arguments[0]))
        elif kind == "step":
            for _ in range(arguments[0]):
                driver.step()
        elif swaps:
            driver.swap(arguments[0])


@pytest.mark.parametrize("policy", POLICIES)
@given(
    script=operations,
    num_blocks=st.integers(11, 40),
    chunk=st.sampled_from((0, 1, 5)),
    mixed=st.sampled_from((0, 3, 8)),
    expected=st.sampled_from((1, 8)),
    victims=st.sampled_from(("policy", "youngest", "least-computed")),
)
@settings(max_examples=80, deadline=None)
def test_batched_equals_alone_and_everyone_ends_once(policy, script, num_blocks, chunk, mixed, expected, victims):
    driver = Driver(
        policy,
        num_blocks,
        prefill_chunk=chunk,
        mixed_prefill_tokens=mixed,
        expected_output=expected,
        victims=victims,
        watermark=0.0,
    )
    play(driver, script)
    driver.finish()
    driver.check()


@pytest.mark.parametrize("policy", POLICIES)
@given(script=operations)
@settings(max_examples=25, deadline=None)
def test_planning_is_pure(policy, script):
    """The same snapshot gives the same plan, twice and from a copy of the policy; neither snapshot nor policy changes."""
    driver = Driver(policy, 16)
    play(driver, script, swaps=False)
    for _ in range(3):
        view, limits = driver.scheduler.view(), driver.scheduler.limits
        before, twin = repr(view), copy.deepcopy(driver.scheduler.policy)
        plans = [
            policy.plan(view, limits, driver.now) for policy in (driver.scheduler.policy, driver.scheduler.policy, twin)
        ]
        assert plans[0] == plans[1] == plans[2]
        assert repr(view) == before and driver.scheduler.view() == view
        driver.step()


def test_nothing_leaks_in_ten_thousand_operations():
    rng, driver = random.Random(5), Driver(num_blocks=24, watermark=0.0)
    for _ in range(10_000):
        action = rng.random()
        if action < 0.25 and driver.scheduler.num_waiting < 12:
            prompt = prompt_of(rng.randrange(4), rng.randint(1, 30))
            driver.submit(prompt, rng.randint(1, 12), tenant=rng.choice("ab"), priority=rng.randrange(3))
        elif action < 0.30 and driver.asked:
            driver.cancel(str(rng.randrange(max(0, len(driver.asked) - 20), len(driver.asked))))
        elif action < 0.31:
            driver.swap(rng.choice(POLICIES))
        elif action < 0.312:
            driver.scheduler.restart_all()
            driver.backend.update_weights({})
        else:
            driver.step()
    driver.finish()
    driver.check()
    assert driver.scheduler.counters.preemptions > 20 and driver.scheduler.counters.cached_tokens > 1000
    assert driver.scheduler.pool.free + driver.scheduler.pool.cached == driver.scheduler.pool.total


@pytest.mark.parametrize("policy", POLICIES)
def test_a_tenant_never_hits_anothers_prefix(policy):
    driver = Driver(policy)
    prompt = prompt_of(1, 20)
    for tenant, expected in (("a", 0), ("b", 0), ("a", 16), ("b", 16)):
        name = driver.submit(prompt, tenant=tenant)
        driver.finish()
        assert driver.cached[name] == expected
    driver.check()


@pytest.mark.parametrize("policy", POLICIES)
def test_cancelled_at_any_phase_the_blocks_are_free_at_once(policy):
    """Queued, in the middle of its prompt, while it decodes, and after its end."""
    for steps in (0, 1, 2, 3, 4, 6, 30):
        driver = Driver(policy)
        name = driver.submit(prompt_of(0, 40), 20)
        for _ in range(steps):
            driver.step()
        driver.cancel(name)
        driver.cancel(name)
        assert driver.scheduler.pool.used == 0 and not driver.busy
        driver.check()


@pytest.mark.parametrize("policy", [name for name in POLICIES if name not in ("static",)])
def test_nobody_starves_while_others_keep_coming(policy):
    """One long, unimportant request of a greedy tenant, then a stream of short, important ones of others."""
    driver = Driver(policy, ageing_rate=5.0, slo_patience=0.5)
    for _ in range(3):
        driver.submit(prompt_of(1, 24), 12, tenant="greedy", priority=9)
    patient = driver.submit(prompt_of(0, 30), 12, tenant="greedy", priority=9)
    for round_ in range(600):
        while driver.scheduler.num_waiting < 6:
            driver.submit(prompt_of(2, 3), 2, tenant=f"t{round_ % 3}", priority=0)
        driver.step()
        if driver.ends[patient]:
            return
    raise AssertionError("starved")


@pytest.mark.parametrize("policy", POLICIES)
def test_the_pool_runs_dry_and_still_nobody_is_preempted_for_ever(policy):
    """Too optimistic about lengths on purpose: everybody is let in, everybody runs out, and all get to their end."""
    driver = Driver(policy, 12, max_num_seqs=8, watermark=0.0, expected_output=1, output_quantile=0.0)
    for index in range(24):
        driver.submit(prompt_of(index, 6), 30, tenant="ab"[index % 2], priority=index % 3)
    driver.finish()
    driver.check()
    assert max(sequence.preemptions for sequence in driver.asked.values()) <= driver.config.max_preemptions + 1
    assert BLOCK * driver.scheduler.pool.total < 24 * 36
