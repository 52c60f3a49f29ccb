"""Two replicas on a real Ray cluster: the same answers as one engine, and what happens when one of them dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from lifecycle.errors import LifecycleError
from serving.composition import build_engine
from serving.domain.errors import ContextLengthExceeded, Draining, InvalidRequest, ModelNotFound
from serving.domain.events import Finished, TokensGenerated
from serving.domain.policies import UnknownPolicy
from serving.infrastructure.cluster import node
from serving.infrastructure.cluster.replica import Batch
from serving.infrastructure.lora import LoraWeights
from tests.serving.cluster.conftest import CONFIG
from tests.serving.engine.support import collect, prompts, request

pytestmark = pytest.mark.slow
PATIENCE = 120.0
LONG = 200  # tokens


def wait_until(condition) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def engine(replicated):
    """Both replicas serving."""
    wait_until(lambda: len(replicated.engine.replicas()) == 2)
    return replicated.engine


def test_ray_is_not_imported_for_an_engine_in_this_process():
    code = "import sys, serving.composition; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_greedy_answers_are_those_of_one_engine_and_both_replicas_give_them(engine, alone):
    asked = list(enumerate(prompts(0, 12)))
    answers = [
        [collect(stream).tokens for stream in [some.submit(request(f"same-{name}", prompt)) for name, prompt in asked]]
        for some in (alone, engine)
    ]
    assert answers[0] == answers[1]
    assert all(replica.stats.finished for replica in engine.replicas())
    together = engine.stats()
    assert together.replicas == 2 and together.finished["length"] + together.finished.get("stop", 0) >= 12
    assert together.generated_tokens >= sum(map(len, answers[1]))


def test_a_conversation_goes_where_its_beginning_is_cached(engine):
    prompt = list(range(1, 33))
    collect(engine.submit(request("turn-1", prompt)))
    ends = [collect(engine.submit(request(f"turn-{n}", [*prompt, n]))).end for n in (2, 3, 4)]
    assert all(end.cached_tokens >= 28 for end in ends)


def test_tokens_come_while_the_answer_is_being_computed(engine):
    stream = engine.submit(request("stream", [5], max_tokens=LONG, min_tokens=LONG))
    events = []
    while not (events and isinstance(events[-1], Finished)):
        events += stream.next(PATIENCE)
    assert len([event for event in events if isinstance(event, TokensGenerated)]) > 3
    assert sum(len(event.tokens) for event in events[:-1]) == LONG


def test_an_adapter_that_is_refused_is_refused_with_the_reason(engine):
    stray = LoraWeights({"no.such.layer": (torch.zeros(1, 4), torch.zeros(4, 1))})
    with pytest.raises(LifecycleError, match="no.such.layer"):
        engine.add_adapter("pirate", stray)
    assert engine.remove_adapter("pirate", 0.0), "and nobody has it"


def test_what_an_engine_refuses_is_refused(engine):
    for wrong, error in [
        (request("r", []), InvalidRequest),
        (request("r", [1] * 250, max_tokens=100), ContextLengthExceeded),
        (request("r", [10**6]), InvalidRequest),
    ]:
        with pytest.raises(error):
            engine.submit(wrong)
    with pytest.raises(UnknownPolicy):
        engine.swap_policy("statik")
    assert not engine.unfinished()


def test_a_cancelled_request_ends_and_gives_its_blocks_back(engine):
    stream = engine.submit(request("cancel", [7], max_tokens=LONG, min_tokens=LONG))
    assert stream.next(PATIENCE)
    (running,) = engine.unfinished()
    assert (running.id, running.state) == ("cancel", "running") and running.generated_tokens
    stream.cancel()
    assert collect(stream).end.reason == "cancelled"
    wait_until(lambda: engine.stats().kv_used == engine.stats().running == 0)


def test_a_policy_is_swapped_in_all_replicas(engine):
    engine.swap_policy("sjf")
    wait_until(lambda: {replica.stats.policy for replica in engine.replicas()} == {"sjf"})
    engine.swap_policy("mixed-chunked")


def test_a_missing_adapter_is_refused(engine):
    with pytest.raises(ModelNotFound):
        engine.submit(replace(request("adapted", [1]), adapter="nobody#0"))


def test_a_killed_replica_takes_only_its_own_answers_with_it_and_is_replaced(engine):
    streams = {f"live-{n}": engine.submit(request(f"live-{n}", [n + 1], max_tokens=LONG, min_tokens=LONG)) for n in range(8)}
    victim = engine.replicas()[0]
    wait_until(lambda: any(flight.begun for flight in list(victim.flights.values())))
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: victim.number not in [replica.number for replica in engine.replicas()])
    answers = {name: collect(stream) for name, stream in streams.items()}
    assert set(answers) == set(streams)
    failed = [answer for answer in answers.values() if answer.end.reason == "error"]
    assert failed and all("lost" in answer.end.error and answer.tokens for answer in failed)
    complete = [answer for answer in answers.values() if answer.end.reason == "length"]
    assert len(failed) + len(complete) == 8 and all(len(answer.tokens) == LONG for answer in complete)
    wait_until(lambda: len(engine.replicas()) == 2)
    assert victim.pid not in [replica.pid for replica in engine.replicas()]
    assert engine.healthy() and collect(engine.submit(request("after", [3]))).end.reason in ("length", "stop")


def test_a_replica_that_says_nothing_any_more_is_replaced(checkpoint, engine):
    """`engine` is not asked: its cluster is where another engine's replicas come and go."""
    quiet = build_engine(checkpoint, replace(CONFIG, replicas=2, stall_seconds=10.0)).engine
    try:
        victim = quiet.replicas()[0]
        os.kill(victim.pid, signal.SIGSTOP)
        wait_until(lambda: victim.number not in [replica.number for replica in quiet.replicas()])
        wait_until(lambda: len(quiet.replicas()) == 2)
        assert len(collect(quiet.submit(request("after", [3], max_tokens=LONG, min_tokens=LONG))).tokens) == LONG
    finally:
        quiet.close()


def test_what_a_lost_replica_said_last_is_told_to_nobody(engine, monkeypatch):
    stream = engine.submit(request("late", [4], max_tokens=LONG, min_tokens=LONG))
    flight = engine._flights["late"]
    replica, flight.begun = flight.replica, False
    monkeypatch.setattr(engine, "_again", lambda flight: None)
    engine._fleet.lose(replica)
    stream.next(0)
    engine._take(replica, Batch((TokensGenerated("late", (1, 2, 3)),), replica.stats, True))
    assert stream.next(0) == [], "the answer begins anew elsewhere"
    engine._end(flight, "error", None)
    wait_until(lambda: len(engine.replicas()) == 2)


def test_replicas_follow_the_load_and_no_answer_is_cut_short(engine, checkpoint):
    """`engine` is not asked: its cluster is where another engine's replicas come and go."""
    config = replace(CONFIG, replicas=1, max_replicas=2, requests_per_replica=2, replica_patience=1.0)
    scaled, numbers = build_engine(checkpoint, config).engine, count()

    def replicas_after(requests: int) -> int:
        names = [f"load-{next(numbers)}" for _ in range(requests)]
        streams = [scaled.submit(request(name, [7], max_tokens=LONG, min_tokens=LONG)) for name in names]
        assert all(len(collect(stream).tokens) == LONG for stream in streams)
        return len(scaled.replicas())

    try:
        assert len(scaled.replicas()) == 1
        wait_until(lambda: replicas_after(8) == 2)
        wait_until(lambda: replicas_after(1) == 1)
    finally:
        scaled.close()


def test_the_last_answers_finish_and_nothing_of_ray_is_left(replicated, engine):
    directory = os.environ["RAY_TMPDIR"]
    processes = [replica.pid for replica in engine.replicas()]
    stream = engine.submit(request("last", [9], max_tokens=LONG, min_tokens=LONG))
    drained = []
    thread = threading.Thread(target=lambda: drained.append(engine.drain(PATIENCE)))
    thread.start()
    wait_until(lambda: engine._draining)
    with pytest.raises(Draining):
        engine.submit(request("late", [1]))
    assert len(collect(stream).tokens) == LONG
    thread.join()
    assert drained == [True]
    engine.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("replica")]  # that could call Ray
    assert node._owned is None and not Path(directory).exists()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert not engine.healthy()


def test_replicas_can_be_started_once_more_in_the_same_process(replicated, checkpoint):
    engine = build_engine(checkpoint, replace(CONFIG, replicas=1)).engine
    try:
        assert len(collect(engine.submit(request("again", [9], max_tokens=LONG, min_tokens=LONG))).tokens) == LONG
    finally:
        engine.close()
    assert node._owned is None
