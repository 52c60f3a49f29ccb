"""Several tokens in one step are the tokens of several steps, and nobody waits for more than was promised."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from serving.application.engine import EngineLoop
from serving.application.ports import Plain, SequenceSlice
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.sampler import RolloutSampler, VectorSampler

from .models import CONFIGS, VOCAB, build

LONG = 1.0
"""Seconds in a step: room for as many tokens as there may be."""


def native(**knobs) -> NativeBackend:
    model = build(CONFIGS["llama"]())
    return NativeBackend(model.config, model.state_dict(), **{"num_blocks": 64, **knobs})


@contextmanager
def running(seconds, *, num_blocks=64, observer=None, sampler=VectorSampler, **knobs):
    config = SchedulerConfig(multi_step_seconds=seconds, **{"max_num_seqs": 6, **knobs})
    engine = EngineLoop(native(num_blocks=num_blocks), sampler(), config, context_length=256, observer=observer)
    with closing(engine.start()):
        yield engine


def answer(stream) -> tuple[list[int], Finished]:
    tokens = []
    while True:
        events = stream.next(20.0)
        assert events, "no event in time"
        for event in events:
            if isinstance(event, Finished):
                return tokens, event
            tokens += event.tokens


def requests(count=8, **sampling) -> list[Request]:
    rng = random.Random(0)
    return [
        Request(
            str(index),
            tuple(rng.randrange(VOCAB) for _ in range(rng.randint(1, 40))),
            SamplingParams(**{"temperature": 0.0, "max_tokens": rng.randint(1, 90), "seed": index, **sampling}),
        )
        for index in range(count)
    ]


def answers(seconds, asked, **knobs):
    """Those of all requests, which are there before the first step; and the steps."""
    steps = []
    with running(seconds, observer=steps.append, **knobs) as engine:
        engine.pause()
        streams = [engine.submit(request) for request in asked]
        engine.resume()
        found = [answer(stream) for stream in streams]
        stats = engine.stats()
    return found, [step for step in steps if isinstance(step, StepReport)], stats


@pytest.mark.parametrize("threads", [1, 2])
def test_tokens_ahead_are_those_of_single_steps(threads):
    backend = native(threads=threads)
    tables = [[3, 9, 4], [7, 1, 0], [2, 5, 6]]
    prompts = [[1, 2, 3], list(range(30)), [50]]
    first = backend.execute(
        [SequenceSlice(str(i), p, 0, tables[i], 1, Plain()) for i, p in enumerate(prompts)]
    ).tokens
    single, last = [[token] for token in first], first
    for step in range(40):
        slices = [
            SequenceSlice(str(i), [last[i]], len(p) + step, tables[i], 1, Plain()) for i, p in enumerate(prompts)
        ]
        last = backend.execute(slices).tokens
        for tokens, token in zip(single, last, strict=True):
            tokens.append(token)
    slices = [SequenceSlice(str(i), [first[i]], len(p), tables[i], 1, Plain(), 39) for i, p in enumerate(prompts)]
    ahead = backend.execute(slices).tokens
    assert [ahead[i * 40 : (i + 1) * 40] for i in range(3)] == [tokens[1:] for tokens in single]


def test_answers_are_the_same_in_fewer_steps():
    asked = requests()
    plain, single, before = answers(0.0, asked)
    found, steps, stats = answers(LONG, asked)
    assert found == plain
    assert stats.generated_tokens == before.generated_tokens == sum(len(tokens) for tokens, _ in plain)
    assert all(step.passes == 1 for step in single)
    assert len(steps) < len(single)
    assert sum(step.passes for step in steps) == len(single), "no pass was for nothing"
    assert steps[-1].kv_used == 0


def test_a_stop_token_ends_an_answer_in_the_middle_of_a_step():
    plain, _, _ = answers(0.0, requests(4, max_tokens=60))
    stops = frozenset(tokens[len(tokens) // 2] for tokens, _ in plain)
    asked = requests(4, max_tokens=60, stop_token_ids=stops)
    expected, _, _ = answers(0.0, asked)
    found, steps, stats = answers(LONG, asked)
    assert found == expected
    assert {end.reason for _, end in found} == {"stop"}
    assert stats.generated_tokens == sum(len(tokens) for tokens, _ in found)
    assert any(step.passes > 1 for step in steps)


@pytest.mark.parametrize("sampler", [VectorSampler, RolloutSampler])
def test_drawn_answers_are_the_same_in_fewer_steps(sampler):
    asked = requests(temperature=0.8)
    plain, single, _ = answers(0.0, asked, sampler=sampler)
    found, steps, _ = answers(LONG, asked, sampler=sampler)
    assert found == plain
    assert len(steps) < len(single)


def test_who_does_not_read_has_as_many_tokens_waiting_as_was_asked():
    with running(LONG) as engine:
        stream = engine.submit(Request("slow", (1, 2, 3), SamplingParams(temperature=0.0, max_tokens=60), ahead=4))
        until = time.monotonic() + 20
        while stream.unread < 4 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert stream.unread == 4
        assert len(answer(stream)[0]) == 60


def test_nobody_is_further_ahead_of_a_reader_than_was_asked():
    asked = [replace(one, ahead=4) for one in requests(3, max_tokens=60)]
    plain, _, _ = answers(0.0, requests(3, max_tokens=60))
    found, steps, _ = answers(LONG, asked)
    assert found == plain and max(step.passes for step in steps) == 4


@pytest.mark.parametrize("other", [{"temperature": 1.0, "top_p": 0.9}, {"logprobs": 1}, {"frequency_penalty": 0.5}])
def test_whoever_is_not_plain_keeps_all_at_one_token_a_step(other):
    asked = [*requests(2, max_tokens=30), Request("other", (5, 6), SamplingParams(max_tokens=30, seed=1, **other))]
    plain, _, _ = answers(0.0, asked)
    found, steps, _ = answers(LONG, asked)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in plain]
    assert all(step.passes == 1 for step in steps if any(item.id == "other" for item in step.work))


def test_nobody_loses_memory_to_tokens_ahead():
    asked = requests(4, max_tokens=60)
    plain, single, _ = answers(0.0, asked, num_blocks=10)
    found, steps, _ = answers(LONG, asked, num_blocks=10)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in plain]
    assert steps[-1].preemptions <= single[-1].preemptions


def test_one_token_a_step_while_somebody_could_join():
    """Who waits and has no memory joins as soon as there is some, which single steps notice; where no place is free nobody can."""
    _, steps, _ = answers(LONG, requests(6, max_tokens=40), num_blocks=6)
    assert any(before.waiting and before.running < 6 for before in steps)
    for before, step in zip(steps, steps[1:], strict=False):
        assert step.passes == 1 or not before.waiting or before.running == 6
    plain, single, _ = answers(0.0, requests(6, max_tokens=40), max_num_seqs=2)
    found, steps, _ = answers(LONG, requests(6, max_tokens=40), max_num_seqs=2)
    assert [tokens for tokens, _ in found] == [tokens for tokens, _ in plain]
    assert any(step.passes > 1 and step.waiting for step in steps) and len(steps) < len(single)


def test_a_request_that_arrives_during_a_long_step_is_answered():
    with running(LONG) as engine:
        long = engine.submit(Request("long", (1, 2), SamplingParams(temperature=0.0, max_tokens=200)))
        started = threading.Event()

        def wait():
            long.next(20.0)
            started.set()

        thread = threading.Thread(target=wait)
        thread.start()
        assert started.wait(20.0)
        thread.join()
        late = engine.submit(Request("late", (3,), SamplingParams(temperature=0.0, max_tokens=5)))
        tokens, end = answer(late)
        assert (len(tokens), end.reason) == (5, "length")
