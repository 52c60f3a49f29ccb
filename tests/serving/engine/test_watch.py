"""Looking on: what a viewer sees is what happened, and the engine neither waits for viewers nor remembers them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.application.recorder import StepRecorder
from serving.application.watch import MAX_VIEWERS, EngineWatch, both
from serving.domain.errors import QueueFull
from serving.domain.events import Finished
from serving.domain.plan import SequenceWork, StepReport
from serving.domain.request import Request, SamplingParams


def step(number: int, *work: SequenceWork, duration: float = 0.01) -> StepReport:
    return StepReport(number, number * 0.02, duration, work, 1, len(work), 3, 2, 16, 0)


def work(name: str, kind: str = "decode", tokens: int = 1, samples: bool = True, accepted: int = 0) -> SequenceWork:
    return SequenceWork(name, kind, tokens, 0, samples, drafted=accepted, accepted=accepted)


def request(name: str, arrival: float = 0.0) -> Request:
    return Request(name, (1, 2, 3), SamplingParams(max_tokens=9), arrival=arrival)


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 12))
def test_what_is_read_and_what_is_lost_is_everything_in_order(pauses, size):
    """`pauses`: how many steps happen before each look."""
    watch, at, written, read, missing = EngineWatch(size), 0, 0, [], 0
    for count in pauses:
        for _ in range(count):
            watch(step(written))
            written += 1
        kept, at, lost = watch.since(at)
        assert lost == max(0, count - size)
        read += [report.step for report in kept]
        missing += lost
    assert len(read) + missing == written == at
    assert read == sorted(set(read))


def test_a_frame_has_the_life_of_a_request():
    watch = EngineWatch()
    viewer = watch.open()
    assert viewer.frame() is None
    watch(request("a", arrival=0.005))
    watch(step(1, work("a", "prefill", 3)))
    watch(step(2, work("a")))
    watch(step(3, work("a")))
    watch(Finished("a", "length", 3, 3))
    watch(step(4, work("b", "prefill", 2, samples=False)))
    frame = viewer.frame()
    assert frame["arrivals"] == [[0, 0.005, 3, 9]]
    assert frame["bars"] == [
        [0, 0, "p", 0.02, 0.03, 3, 1],
        [0, 0, "d", 0.04, 0.07, 2, 2],  # two steps of one kind, joined
        [1, 1, "p", 0.08, 0.09, 2, 1],  # a step that ended with "a" is reported after its end, so its lane was not free
    ]
    assert frame["ends"] == [[0, "length", 3, 0]]
    assert frame["ttft_ms"] == {"p50": 25.0, "p90": 25.0, "p99": 25.0}
    assert frame["itl_ms"]["p50"] == pytest.approx(20.0)
    assert (frame["step"], frame["waiting"], frame["kv_used"], frame["kv_total"]) == (4, 1, 3, 16)
    assert viewer.frame() is None


def test_lanes_are_taken_from_the_lowest_free_one():
    watch = EngineWatch()
    viewer = watch.open()
    watch(step(1, work("a"), work("b"), work("c")))
    watch(Finished("b", "stop", 1, 1))
    watch(step(2, work("a"), work("b"), work("c")))
    watch(step(3, work("a"), work("c"), work("d")))
    viewer.frame()
    assert viewer.lanes() == {"a": 0, "c": 2, "d": 1}


def test_right_guesses_share_the_time_of_their_step():
    watch = EngineWatch()
    viewer = watch.open()
    watch(request("a"))
    watch(step(1, work("a", "prefill", 3)))
    watch(step(2, work("a", tokens=4, accepted=3)))
    assert viewer.frame()["itl_ms"] == {"p50": 5.0, "p90": 5.0, "p99": 5.0}


def test_a_viewer_who_was_too_slow_is_told_and_forgets_what_may_have_ended():
    watch = EngineWatch(4)
    viewer = watch.open()
    watch(step(0, work("gone")))
    viewer.frame()
    for number in range(1, 8):
        watch(step(number, work("here")))
    frame = viewer.frame()
    assert frame["lost"] == 3
    assert viewer.lanes() == {"here": 0}


def test_somebody_who_comes_late_sees_what_the_ring_still_holds():
    watch = EngineWatch()
    watch(step(1, work("a")))
    assert len(watch.open().frame()["bars"]) == 1


def test_the_ring_keeps_no_prompt():
    watch = EngineWatch()
    watch(request("a"))
    ((kept,), _, _) = watch.since(0)
    assert (kept.prompt_tokens, kept.max_tokens) == (3, 9)


def test_too_many_viewers_are_refused_and_a_place_is_free_again():
    watch = EngineWatch()
    viewers = [watch.open() for _ in range(MAX_VIEWERS)]
    with pytest.raises(QueueFull):
        watch.open()
    viewers[0].close()
    viewers[0].close()  # twice is once
    assert watch.viewers == MAX_VIEWERS - 1
    watch.open()


def test_a_recorder_and_a_viewer_hear_the_same():
    watch, recorder = EngineWatch(), StepRecorder()
    tell = both(watch, recorder)
    tell(request("a"))
    tell(step(1, work("a")))
    assert len(recorder.observations) == 2
    assert watch.since(0)[0][1] is recorder.observations[1]
