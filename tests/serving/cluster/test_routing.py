"""Which replica gets a request, and how many replicas there are: pure decisions."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.config import override
from lifecycle.errors import LifecycleError
from serving.application.combining import combine_maps
from serving.domain.blocks import BlockMap
from serving.domain.request import Request
from serving.domain.routing import OVERLOAD, PrefixRouter, beginnings
from serving.domain.scaling import ScalingRule, demand
from serving.infrastructure.config import ServingConfig


def spread(router, loads, prefix=()):
    return router.route(range(len(loads)), loads.__getitem__, sum(loads), prefix)


def test_the_lighter_of_two_keeps_the_heaviest_near_the_mean():
    router, loads = PrefixRouter(), [0] * 50
    for _ in range(5000):
        loads[spread(router, loads)] += 1
    assert max(loads) - min(loads) <= 6  # one choice alone would leave about fifty between them


def test_the_heaviest_of_all_is_never_chosen_without_a_reason():
    router = PrefixRouter()
    assert not [at for at in (spread(router, [3, 9, 3, 3]) for _ in range(200)) if at == 1]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.lists(st.integers(0, 5), max_size=4), st.integers(0, 9))
def test_a_home_is_kept_up_to_its_bound(loads, prefix, seed):
    router = PrefixRouter(seed)
    first = spread(router, loads, prefix)
    assert 0 <= first < len(loads)
    if prefix:
        again = spread(router, loads, prefix)
        bound = OVERLOAD * (sum(loads) + 1) / len(loads) + 1
        assert again == first or loads[first] > bound


def test_the_longest_known_beginning_decides_and_a_replica_that_is_gone_does_not():
    router = PrefixRouter()
    home = spread(router, [0, 0, 0], ["system", "first question"])
    others = [at for at in range(3) if at != home]
    router.route(others, lambda _: 0, 0, ["system", "second question"])
    assert spread(router, [1, 1, 1], ["system", "first question", "more"]) == home
    assert {router.route(others, lambda _: 0, 0, ["system", "first question"]) for _ in range(20)} <= set(others)


def test_what_was_used_longest_ago_is_forgotten():
    router = PrefixRouter(remembered=2)
    for key in "abc":
        spread(router, [0, 0], [key])
    assert list(router._homes) == ["b", "c"]


def test_nobody_is_drawn_to_another_tenants_prompt():
    tokens = tuple(range(10))
    mine, same, theirs, adapted = (
        beginnings(Request("a", tokens, tenant=tenant, adapter=adapter), 4)
        for tenant, adapter in [("me", None), ("me", None), ("you", None), ("me", "pirate")]
    )
    assert mine == same and len(mine) == 2
    assert not Counter(mine) & Counter(theirs) and not Counter(mine) & Counter(adapted)
    assert beginnings(Request("b", (*tokens[:4], 99, 99, 99, 99)), 4)[0] == beginnings(Request("c", tokens), 4)[0]


def test_replicas_follow_the_load_up_at_once_and_down_with_patience():
    rule = ScalingRule(least=1, most=4, requests=10, patience=30)
    assert demand(rule, 1, 10, now=0).replicas == 1
    assert demand(rule, 1, 11, now=0).replicas == 2
    assert demand(rule, 2, 1000, now=0).replicas == 4
    low = demand(rule, 4, 3, now=100)
    assert (low.replicas, low.low_since) == (4, 100)
    assert demand(rule, 4, 3, now=129, low_since=low.low_since).replicas == 4
    assert demand(rule, 4, 3, now=130, low_since=low.low_since).replicas == 1
    assert demand(rule, 4, 40, now=130, low_since=low.low_since).low_since is None


def test_block_maps_are_laid_end_to_end():
    one = BlockMap((1, 0), (1,), {"a": (0,)})
    two = BlockMap((0, 2, 1), (0,), {"b": (1, 2), "c": (1,)})
    assert combine_maps([one, two]) == BlockMap((1, 0, 0, 2, 1), (1, 2), {"a": (0,), "b": (3, 4), "c": (3,)})


@pytest.mark.parametrize(
    "changes", [{"replicas": "-1"}, {"max_replicas": "2"}, {"replicas": "3", "max_replicas": "2"}, {"ray_address": "10.0.0.1:6379"}]
)
def test_numbers_of_replicas_that_cannot_be_are_refused(changes):
    with pytest.raises(LifecycleError, match="replicas"):
        override(ServingConfig(), changes)
