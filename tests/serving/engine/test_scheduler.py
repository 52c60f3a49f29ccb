"""Scheduler and policies, with made-up tokens in place of a model: limits, fairness, progress."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.plan import Limits, PlanError, SchedulerView, StepPlan, check
from serving.domain.policies import UnknownPolicy, make_policy
from serving.domain.request import Request, SamplingParams
from serving.domain.scheduler import Scheduler
from serving.domain.sequence import Sequence, State

from .support import POLICIES

SIZE = 4


def make(policy="continuous-batched-prefill", num_blocks=64, **knobs):
    knobs = {"max_num_seqs": 4, "max_num_batched_tokens": 16, **knobs}
    config = SchedulerConfig(block_size=SIZE, num_blocks=num_blocks, **knobs)
    policy = make_policy(policy, config) if isinstance(policy, str) else policy
    return Scheduler(config, policy, BlockPool(num_blocks, SIZE))


def sequence(name, prompt=5, max_tokens=4, arrival=0.0, deadline=None, tenant="a"):
    tokens = tuple(random.Random(name).randrange(100) for _ in range(prompt))
    asked = Request(name, tokens, SamplingParams(max_tokens=max_tokens), deadline=deadline, tenant=tenant)
    return Sequence(asked, arrival=arrival, seed=0, block_size=SIZE)


def step(scheduler, now=0.0):
    """One step with a token that is a function of the sequence alone, as a model's would be."""
    work = scheduler.schedule(now)
    sampled = [item.sequence.target * 7 % 100 for item in work if item.samples]
    return work, scheduler.complete(work, sampled)


def shape(work):
    return {item.sequence.id: (item.kind, item.count) for item in work}


def run(scheduler, arrivals=(), limit=5000):
    """Steps until everything is done; yields each step's work. `arrivals`: (step, sequence)."""
    arrivals, events, now = sorted(arrivals, key=lambda pair: pair[0]), [], 0
    while arrivals or scheduler.num_waiting or scheduler.num_running:
        while arrivals and arrivals[0][0] <= now:
            scheduler.add(arrivals.pop(0)[1])
        work, new = step(scheduler, float(now))
        events += new
        now += 1
        assert work or arrivals, "no progress"
        assert now < limit, "no end"
        yield work, events


@pytest.mark.parametrize("policy", POLICIES)
@given(seed=st.integers(0, 2**32), num_blocks=st.integers(10, 40), chunk=st.sampled_from((0, 3)))
@settings(max_examples=25, deadline=None)
def test_under_any_load_limits_hold_and_every_request_ends_exactly_once(policy, seed, num_blocks, chunk):
    rng = random.Random(seed)
    scheduler = make(policy, num_blocks, prefill_chunk=chunk)
    arrivals = []
    for index in range(12):
        when, prompt, longest = rng.randrange(30), rng.randint(1, 24), rng.randint(1, 12)
        arrivals.append((when, sequence(f"s{index}", prompt, longest, arrival=float(when))))
    events = []
    for work, events in run(scheduler, arrivals):  # noqa: B007
        assert sum(item.count for item in work) <= scheduler.limits.max_num_batched_tokens
        assert scheduler.num_running <= scheduler.limits.max_num_seqs
        pool = scheduler.pool
        assert pool.free + pool.used + pool.cached == pool.total
    ends = [event for event in events if isinstance(event, Finished)]
    assert sorted(end.request_id for end in ends) == sorted(s.id for _, s in arrivals)
    assert all(s.generated == s.request.sampling.max_tokens for _, s in arrivals)
    assert scheduler.pool.used == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_planning_twice_gives_the_same_plan_and_changes_nothing(policy):
    scheduler = make(policy)
    for index in range(6):
        scheduler.add(sequence(f"s{index}", 3 + 4 * index, arrival=float(index)))
    for _ in range(6):
        view = scheduler.view()
        before = repr(view)
        plans = [scheduler.policy.plan(view, scheduler.limits, 1.0) for _ in range(2)]
        assert plans[0] == plans[1] and repr(view) == before and scheduler.view() == view
        step(scheduler)


def test_static_fills_a_batch_only_when_the_last_one_is_done():
    scheduler = make("static", max_num_seqs=2)
    for arrival, longest in enumerate((1, 6, 2)):
        scheduler.add(sequence(f"s{arrival}", max_tokens=longest, arrival=float(arrival)))
    batches = [set(shape(work)) for work, _ in run(scheduler)]
    assert batches == [{"s0", "s1"}] + [{"s1"}] * 5 + [{"s2"}] * 2


def test_static_admits_a_batch_larger_than_one_steps_budget():
    scheduler = make("static")
    for index in range(4):
        scheduler.add(sequence(f"s{index}", 10, arrival=float(index)))
    step(scheduler)
    assert scheduler.num_running == 4


def test_continuous_lets_one_prompt_join_the_decodes_of_the_others():
    scheduler = make("continuous")
    for index in range(3):
        scheduler.add(sequence(f"s{index}", 5, arrival=float(index)))
    shapes = [shape(step(scheduler)[0]) for _ in range(3)]
    assert shapes[0] == {"s0": ("prefill", 5)}
    assert shapes[1] == {"s0": ("decode", 1), "s1": ("prefill", 5)}
    assert shapes[2] == {"s0": ("decode", 1), "s1": ("decode", 1), "s2": ("prefill", 5)}


def test_batched_prefill_computes_all_prompts_that_fit_in_one_step():
    scheduler = make()
    for index in range(4):
        scheduler.add(sequence(f"s{index}", 5, arrival=float(index)))
    shapes = [shape(step(scheduler)[0]) for _ in range(3)]
    assert shapes[0] == {f"s{index}": ("prefill", 5) for index in range(3)}
    assert shapes[1] == {"s3": ("prefill", 5)}
    assert shapes[2] == {f"s{index}": ("decode", 1) for index in range(4)}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_prompt_longer_than_the_budget_is_prefilled_in_pieces(policy):
    scheduler = make(policy)
    scheduler.add(sequence("long", 40))
    assert [step(scheduler)[0][0].count for _ in range(4)] == [16, 16, 8, 1]


def test_a_cached_prefix_is_not_computed_again():
    scheduler = make()
    scheduler.add(sequence("x", 10, max_tokens=1))
    step(scheduler)
    twin = sequence("x", 10, max_tokens=1)
    scheduler.add(twin)
    assert shape(step(scheduler)[0]) == {"x": ("prefill", 2)}
    assert twin.cached_tokens == 8 and scheduler.counters.cached_tokens == 8


@pytest.mark.parametrize("policy", POLICIES)
def test_a_dry_pool_preempts_the_youngest_and_everyone_still_ends(policy):
    scheduler = make(policy, num_blocks=8, expected_output=1)
    members = [sequence(f"s{index}", 6, max_tokens=20, arrival=float(index)) for index in range(4)]
    for member in members:
        scheduler.add(member)
    for _ in run(scheduler):
        pass
    assert members[0].preemptions == 0, "the oldest keeps its memory"
    assert all(member.state is State.FINISHED for member in members)
    assert scheduler.counters.preemptions or policy in ("continuous", "static")


def test_the_oldest_gets_memory_even_when_it_was_admitted_last():
    """Memory promised to a younger sequence earlier in the same step is taken back."""
    scheduler = make("continuous", num_blocks=6, expected_output=1)
    young, old = sequence("young", 4, 11, arrival=2.0), sequence("old", 4, 11, arrival=1.0)
    scheduler.add(young)
    step(scheduler)
    scheduler.add(old)
    for _ in run(scheduler):
        assert old.preemptions == 0
    assert young.preemptions
    assert old.state is young.state is State.FINISHED


def test_a_preempted_sequence_keeps_what_it_generated():
    scheduler = make(num_blocks=8, expected_output=1)
    members = [sequence(f"s{index}", 6, max_tokens=20, arrival=float(index)) for index in range(3)]
    for member in members:
        scheduler.add(member)
    tokens = {}
    for _, events in run(scheduler):
        tokens = {
            name: sum(len(e.tokens) for e in events if not isinstance(e, Finished) and e.request_id == name)
            for name in ("s0", "s1", "s2")
        }
    assert tokens == {"s0": 20, "s1": 20, "s2": 20}


def test_deadlines_end_waiting_and_running_sequences():
    scheduler = make("static", max_num_seqs=1)
    scheduler.add(sequence("running", max_tokens=50, deadline=5.0))
    scheduler.add(sequence("waiting", deadline=3.0))
    step(scheduler)
    assert [event.request_id for event in scheduler.expire(4.0)] == ["waiting"]
    (end,) = scheduler.expire(5.0)
    assert (end.request_id, end.reason, end.error) == ("running", "error", "deadline_exceeded")
    assert scheduler.pool.used == 0 and scheduler.expire(99.0) == []


def test_a_deadline_ends_its_own_request_and_no_later_one_of_that_name():
    scheduler = make()
    scheduler.add(sequence("x", max_tokens=1, deadline=5.0))
    step(scheduler)
    scheduler.add(sequence("x", max_tokens=50))
    step(scheduler)
    assert scheduler.expire(9.0) == [] and scheduler.num_running == 1


class Careless:
    """A policy that admits whatever waits and hands out four tokens to everybody, without a look at need or memory."""

    name = "careless"

    def plan(self, view, limits, now):
        seen = [*view.running, *view.waiting][: limits.max_num_seqs]
        return StepPlan(work=tuple((s.id, 4) for s in seen), admitted=tuple(s.id for s in seen if s in view.waiting))

    def observe(self, report):
        pass


class OnlyTheNewest(Careless):
    """Fills a batch and then cares for its newest member alone."""

    def plan(self, view, limits, now):
        return StepPlan(work=((view.running[-1].id, 4),)) if view.running else super().plan(view, limits, now)


def test_even_a_careless_policy_makes_progress():
    scheduler = make(Careless(), num_blocks=8)
    for index in range(4):
        scheduler.add(sequence(f"s{index}", 9, max_tokens=12, arrival=float(index)))
    for _ in run(scheduler):
        pass
    assert scheduler.counters.finished == {"length": 4} and scheduler.counters.preemptions


def test_a_step_that_only_preempts_is_planned_again_at_once():
    scheduler = make(OnlyTheNewest(), num_blocks=4)
    for index in range(2):
        scheduler.add(sequence(f"s{index}", 4, max_tokens=12, arrival=float(index)))
    for _ in run(scheduler):  # which asserts that no step is empty
        pass
    assert scheduler.counters.preemptions


class Spiteful(Careless):
    """Always takes memory from whoever is nearest to its end."""

    name = "spiteful"

    def plan(self, view, limits, now):
        nearest = sorted(view.running, key=lambda s: -s.target)
        return replace(super().plan(view, limits, now), victims=tuple(s.id for s in nearest))


def test_no_choice_of_victims_keeps_a_sequence_from_its_end():
    scheduler = make(Spiteful(), num_blocks=8)
    members = [sequence(f"s{index}", 9, max_tokens=20, arrival=float(index)) for index in range(4)]
    for member in members:
        scheduler.add(member)
    for _ in run(scheduler):
        pass
    assert scheduler.counters.finished == {"length": 4}
    assert members[0].preemptions == 3, "as often as max_preemptions allows, and not once more"


def test_memory_promised_to_a_younger_sequence_in_the_same_step_is_taken_back():
    scheduler = make(Careless(), num_blocks=3)
    young, old = sequence("young", 4, arrival=2.0), sequence("old", 4, arrival=1.0)
    scheduler.add(young)
    scheduler.add(old)
    step(scheduler)
    assert shape(step(scheduler)[0]) == {"old": ("decode", 1)}
    assert (young.state, young.preemptions, old.preemptions) == (State.WAITING, 1, 0)


def test_a_preempted_sequence_is_first_in_the_queue_and_its_own_cache_is_no_prefix_hit():
    scheduler = make(Careless(), num_blocks=3, max_num_seqs=2)
    young, old = sequence("young", 4, arrival=2.0), sequence("old", 4, max_tokens=2, arrival=1.0)
    for member in (young, old, sequence("later", arrival=3.0)):
        scheduler.add(member)
    step(scheduler)
    step(scheduler)
    assert [view.id for view in scheduler.view().waiting] == ["young", "later"]
    assert shape(step(scheduler)[0])["young"] == ("decode", 1), "four of its five tokens are still cached"
    assert young.cached_tokens == 0 and scheduler.counters.cached_tokens == 0


@pytest.mark.parametrize(
    "plan",
    [
        StepPlan(work=(("run", 1), ("run", 1))),
        StepPlan(work=(("nobody", 1),)),
        StepPlan(work=(("wait", 1),)),
        StepPlan(work=(("run", 0),)),
        StepPlan(work=(("run", 99),)),
        StepPlan(work=(("run", 1),), preempted=("run",)),
        StepPlan(admitted=("run",)),
        StepPlan(admitted=("wait",)),
    ],
)
def test_impossible_plans_are_refused(plan):
    scheduler = make("static", max_num_seqs=1)
    scheduler.add(sequence("run"))
    step(scheduler)
    scheduler.add(sequence("wait"))
    limits = Limits(1, 16, 0, SIZE, 64)
    with pytest.raises(PlanError):
        check(plan, scheduler.view(), limits)


def test_an_empty_engine_plans_an_empty_step():
    for policy in POLICIES:
        assert make_policy(policy).plan(SchedulerView((), (), 8), Limits(4, 16, 0, SIZE, 8), 0.0).work == ()


def test_an_unknown_policy_names_those_there_are():
    with pytest.raises(UnknownPolicy, match='static, continuous, .*, slo.*mean "static"'):
        make_policy("statik")


def test_knobs_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="max_num_batched_tokens"):
        SchedulerConfig(max_num_seqs=8, max_num_batched_tokens=4)


@pytest.mark.parametrize("policy", POLICIES)
def test_who_rests_after_a_preemption_is_prefilled_and_keeps_nobody_waiting(policy):
    resting = set()
    config = SchedulerConfig(block_size=SIZE, num_blocks=64, max_num_seqs=4, max_num_batched_tokens=16)
    scheduler = Scheduler(config, make_policy(policy, config), BlockPool(64, SIZE), lambda one: one.id in resting)
    scheduler.add(sequence("paced", prompt=8, max_tokens=20))
    for _ in range(5):
        step(scheduler)
    resting.add("paced")
    scheduler._preempt("paced")
    (paced,) = scheduler._waiting.values()
    generated = paced.generated
    scheduler.add(sequence("other", prompt=30, max_tokens=4, arrival=1.0))
    events = []
    for now in range(40):
        events += step(scheduler, float(now))[1]
    assert any(isinstance(event, Finished) and event.request_id == "other" for event in events)
    assert paced.generated == generated
