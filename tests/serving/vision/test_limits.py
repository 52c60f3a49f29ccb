"""Pictures per step: never more than the limit, whatever the policy hands out, and everybody gets to the end."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.domain.blocks import BlockPool
from serving.domain.config import SchedulerConfig
from serving.domain.media import Placement, up_to
from serving.domain.policies import BUILTIN, make_policy
from serving.domain.request import Request, SamplingParams
from serving.domain.scheduler import Scheduler
from serving.domain.sequence import Sequence

PICTURES = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=6)
"""(text before it, placeholders) of each picture of a prompt."""


def sequence(name: str, pictures: list[tuple[int, int]]) -> Sequence:
    media, at = [], 1
    for number, (text, size) in enumerate(pictures):
        media.append(Placement(f"{name} {number}", ((at + text, at + text + size),), {}))
        at += text + size
    asked = Request(name, tuple(range(at + 1)), SamplingParams(max_tokens=3), media=tuple(media))
    return Sequence(asked, arrival=0.0, seed=0, block_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(PICTURES, min_size=1, max_size=5), st.integers(1, 3), st.integers(4, 40), st.sampled_from(sorted(BUILTIN)))
def test_no_step_shows_more(prompts, most, budget, policy):
    config = SchedulerConfig(max_num_seqs=4, max_num_batched_tokens=budget, block_size=4, num_blocks=64, step_pictures=most)
    scheduler = Scheduler(config, make_policy(policy, config), BlockPool(64, 4))
    for number, pictures in enumerate(prompts):
        scheduler.add(sequence(str(number), pictures))
    for now in range(500):
        if not scheduler.num_waiting and not scheduler.num_running:
            break
        work = scheduler.schedule(float(now))
        shown = [
            placement
            for item in work
            for placement in item.sequence.request.media
            if any(placement.within(item.start, item.start + item.count))
        ]
        assert work and len(shown) <= most
        scheduler.complete(work, [7 for item in work if item.samples])
    assert scheduler.counters.finished == {"length": len(prompts)}


def test_a_step_ends_before_the_picture_that_is_too_many():
    media = sequence("a", [(2, 3), (0, 4), (5, 2)]).request.media  # at 3-6, 6-10 and 15-17
    assert up_to(media, 0, 18, 1) == (6, 1)
    assert up_to(media, 0, 18, 2) == (15, 2)
    assert up_to(media, 0, 3, 0) == (3, 0)
    assert up_to(media, 4, 18, 0) == (4, 0)
    assert up_to(media, 10, 18, 1) == (18, 1)
