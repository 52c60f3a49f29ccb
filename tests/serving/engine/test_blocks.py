"""BlockPool: nothing leaks, nothing is shared that should not be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain import blocks
from serving.domain.blocks import BlockChain, BlockPool

SIZE = 4


def chain(tokens, tenant="a"):
    return BlockChain(list(tokens), (tenant,), SIZE)


def computed(pool, name, tokens, tenant="a"):
    """Open, fill and commit a sequence; returns its cached tokens."""
    cached = pool.open(name, chain(tokens, tenant))
    assert pool.grow(name, len(tokens))
    pool.commit(name, len(tokens))
    return cached


def consistent(pool, tables):
    """Everything that must hold between the pool's parts at any time."""
    assert pool.free + pool.used + pool.cached == pool.total
    assert pool.available == pool.free + pool.cached
    held = [block for name in tables for block in pool.table(name)]
    assert pool.used == len(set(held))
    for name in tables:
        assert len(set(pool.table(name))) == len(pool.table(name))


@given(st.integers(0, 2**32), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_no_block_is_lost_or_owned_twice_after_thousands_of_operations(seed, total):
    rng = random.Random(seed)
    pool, tables = BlockPool(total, SIZE), {}
    for step in range(400):
        action = rng.choice(("open", "append", "append", "append", "close", "forget"))
        if action == "open":
            # Two letters and few lengths: prefixes meet all the time.
            tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 3 * SIZE))]
            tables[f"s{step}"] = tokens
            cached = pool.open(f"s{step}", BlockChain(tokens, (rng.choice("ab"),), SIZE))
            assert cached < len(tokens) and cached % SIZE == 0
        elif action == "append" and tables:
            name = rng.choice(list(tables))
            before, counts = list(pool.table(name)), (pool.free, pool.cached)
            tables[name].append(rng.randrange(2))
            if pool.grow(name, len(tables[name])):
                assert len(pool.table(name)) == max(len(before), pool.blocks_for(len(tables[name])))
                pool.commit(name, len(tables[name]))
            else:
                assert (list(pool.table(name)), (pool.free, pool.cached)) == (before, counts)
                tables[name].pop()
        elif action == "close" and tables:
            tables.pop(name := rng.choice(list(tables)))
            pool.close(name)
        elif action == "forget" and rng.random() < 0.1:
            pool.forget()
        consistent(pool, tables)
    for name in list(tables):
        pool.close(name)
    assert pool.used == 0


def test_a_prefix_is_found_again_but_never_its_last_token():
    pool = BlockPool(8, SIZE)
    assert computed(pool, "one", range(8)) == 0
    pool.close("one")
    assert pool.cached == 2
    assert pool.open("same", chain(range(8))) == 4
    assert pool.open("longer", chain(range(9))) == 8
    assert pool.open("other", chain([9, *range(1, 9)])) == 0


def test_running_sequences_share_blocks_and_the_last_one_gives_them_back():
    pool = BlockPool(8, SIZE)
    computed(pool, "one", range(9))
    assert pool.hint(chain(range(9))) == (8, 2)
    pool.open("two", chain(range(9)))
    assert pool.table("two") == pool.table("one")[:2]
    pool.close("one")
    assert pool.used == 2
    pool.close("two")
    assert (pool.used, pool.cached) == (0, 2)


def test_a_tenant_never_gets_anothers_blocks():
    pool = BlockPool(8, SIZE)
    computed(pool, "one", range(9), tenant="a")
    assert pool.open("two", chain(range(9), tenant="b")) == 0
    assert BlockChain([1] * 8, ("ab", "c"), SIZE).digest(0) != BlockChain([1] * 8, ("a", "bc"), SIZE).digest(0)


def test_equal_digests_alone_are_not_believed(monkeypatch):
    class Colliding:
        def __init__(self, *args, **kwargs):
            pass

        def digest(self):
            return b"same"

    monkeypatch.setattr(blocks, "blake2b", Colliding)
    pool = BlockPool(8, SIZE)
    computed(pool, "one", [1] * 4)
    assert pool.open("two", chain([2] * 9)) == 0


def test_the_tail_of_a_prefix_is_evicted_before_its_head():
    pool = BlockPool(4, SIZE)
    computed(pool, "one", range(16))
    pool.close("one")
    computed(pool, "two", [50] * 8)
    assert pool.match(chain(range(17))) and len(pool.match(chain(range(17)))) == 2


def test_an_evicted_block_is_found_by_nobody():
    pool = BlockPool(2, SIZE)
    computed(pool, "one", range(8))
    pool.close("one")
    computed(pool, "two", [50] * 8)
    assert pool.match(chain(range(9))) == []


def test_after_forget_nothing_is_served_from_before():
    pool = BlockPool(8, SIZE)
    computed(pool, "running", range(9))
    pool.forget()
    assert pool.match(chain(range(9))) == []
    pool.close("running")
    assert pool.free == pool.total


def test_a_table_cannot_be_opened_twice():
    pool = BlockPool(2, SIZE)
    pool.open("one", chain([1]))
    with pytest.raises(ValueError, match="one"):
        pool.open("one", chain([1]))


def test_media_are_part_of_a_blocks_identity_from_where_they_begin():
    """Placeholder tokens are all alike; the text before a picture is shared, the picture only with its like."""
    pool = BlockPool(16, SIZE)
    tokens = [1, 2, 3, 4, 9, 9, 9, 9, 5, 6, 7, 8, 0]
    with_cat = BlockChain(tokens, ("a",), SIZE, ((4, "cat"),))
    pool.open("one", with_cat)
    assert pool.grow("one", len(tokens))
    pool.commit("one", len(tokens))
    for media, expected in (((4, "cat"),), 12), (((4, "dog"),), 4), ((), 4), (((4, "cat"), (8, "dog")), 8):
        assert pool.hint(BlockChain(list(tokens), ("a",), SIZE, media))[0] == expected


def test_blocks_of_a_table_that_others_hold_too_are_counted():
    pool = BlockPool(8, SIZE)
    computed(pool, "one", range(11))
    assert pool.shared("one") == 0
    computed(pool, "two", [*range(8), 50])
    assert pool.shared("one") == pool.shared("two") == 2
    pool.close("one")
    assert pool.shared("two") == 0


def test_a_preempted_sequence_loses_only_the_tail_that_others_took():
    pool = BlockPool(6, SIZE)
    computed(pool, "victim", range(16))
    pool.close("victim")
    computed(pool, "other", [50] * 12)
    assert pool.hint(chain(range(17)))[0] == 12
