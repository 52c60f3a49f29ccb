"""EngineLoop on a real tiny model: batched == alone, one terminal event each, nothing that one client does hurts another."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace

import pytest
import torch

from serving.application.engine import EngineLoop
from serving.application.ports import Draw
from serving.application.recorder import StepRecorder
from serving.domain.config import SchedulerConfig
from serving.domain.errors import ContextLengthExceeded, Draining, InvalidRequest, QueueFull
from serving.domain.events import TokensGenerated
from serving.domain.plan import StepPlan
from serving.domain.policies import UnknownPolicy
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

from .support import PATIENCE, POLICIES, VOCAB, collect, generate, prompts, request, running


class Poisoned:
    """A real backend that fails whenever one token is in the batch."""

    def __init__(self, backend, token):
        self._backend, self._token = backend, token

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def execute(self, batch):
        if any(self._token in item.tokens for item in batch):
            raise RuntimeError("this token breaks me")
        return self._backend.execute(batch)


class Gate:
    """A real backend that waits before each step until it is opened."""

    def __init__(self, backend):
        self._backend = backend
        self.entered, self.opened = threading.Event(), threading.Event()

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def execute(self, batch):
        self.entered.set()
        assert self.opened.wait(PATIENCE)
        return self._backend.execute(batch)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def backend_of(model, num_blocks=64):
    return PackedTorchBackend(model, num_blocks=num_blocks, block_size=4)


@pytest.mark.parametrize("policy", POLICIES)
def test_batched_equals_alone_whenever_requests_arrive(any_model, policy):
    asked = prompts(3, 10)
    rng = random.Random(policy)
    streams, early = [], [[] for _ in asked]
    with running(any_model, policy=policy, num_blocks=48, prefill_chunk=7) as engine:
        for index, prompt in enumerate(asked):
            streams.append(engine.submit(request(index, prompt)))
            if rng.random() < 0.6:  # let some steps pass: arrivals meet the batch in every state
                which = rng.randrange(len(streams))
                early[which] += streams[which].next(0.002)
        answers = [collect(stream, events) for stream, events in zip(streams, early, strict=True)]
    # Only now: `generate` needs the model's own attention, which the engine must not lose while it runs.
    for prompt, answer in zip(asked, answers, strict=True):
        assert answer.tokens == generate(any_model, prompt)
        assert (answer.end.reason, answer.end.prompt_tokens, answer.end.completion_tokens) == (
            "length",
            len(prompt),
            12,
        )


@pytest.mark.parametrize("policy", POLICIES)
def test_recomputing_preempted_sequences_changes_nothing(model, policy):
    asked = prompts(4, 6, longest=9)
    with running(model, policy=policy, num_blocks=9, expected_output=1) as engine:
        streams = [engine.submit(request(index, prompt, max_tokens=20)) for index, prompt in enumerate(asked)]
        answers = [collect(stream).tokens for stream in streams]
        stats = engine.stats()
    assert answers == [generate(model, prompt, 20) for prompt in asked]
    assert stats.preemptions > 0 and stats.kv_used == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_a_client_that_leaves_in_the_middle_of_its_prompt_frees_the_blocks_with_the_next_step(model, policy):
    backend = backend_of(model)
    execute, steps = backend.execute, []

    def leave_in_the_third_step(batch):
        steps.append(len(batch[0].tokens))
        if len(steps) == 3:
            stream.cancel()
        return execute(batch)

    backend.execute = leave_in_the_third_step
    with running(model, backend=backend, policy=policy) as engine:
        engine.pause()
        stream = engine.submit(request("a", [1] * 100))
        engine.resume()
        assert collect(stream).end.reason == "cancelled"
        assert (steps, engine.call(engine.stats).kv_used) == ([16, 16, 16], 0)


def test_a_prefix_hit_changes_nothing_and_saves_work(model):
    prompt = prompts(5, 1, longest=30)[0] * 2
    with running(model) as engine:
        first, second = (collect(engine.submit(request(name, prompt))) for name in ("first", "second"))
        other = collect(engine.submit(request("other", prompt, tenant="somebody else")))
    assert first.tokens == second.tokens == other.tokens == generate(model, prompt)
    assert (first.end.cached_tokens, other.end.cached_tokens) == (0, 0)
    assert second.end.cached_tokens == (len(prompt) - 1) // 4 * 4


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(model):
    prompt = prompts(6, 1)[0]
    answer = generate(model, prompt)
    stop = next(token for token in answer if answer.index(token) >= 2)
    where = answer.index(stop)
    with running(model) as engine:
        ended = collect(engine.submit(request("a", prompt, stop_token_ids=frozenset({stop}))))
        later = collect(engine.submit(request("b", prompt, stop_token_ids=frozenset({stop}), min_tokens=where + 1)))
    assert (ended.tokens, ended.end.reason, ended.end.completion_tokens) == (answer[:where], "stop", where)
    assert len(later.tokens) > where and stop not in later.tokens[: where + 1]


def test_a_seeded_answer_does_not_depend_on_batch_mates(model):
    mates = prompts(7, 6)
    with running(model) as engine:
        alone = collect(engine.submit(request("alone", mates[0], temperature=1.0, seed=5))).tokens
        streams = [
            engine.submit(request(index, prompt, temperature=0.5 + index, top_p=0.9, top_k=index))
            for index, prompt in enumerate(mates)
        ]
        among = collect(engine.submit(request("among", mates[0], temperature=1.0, seed=5))).tokens
        unseeded = {tuple(collect(engine.submit(request(f"u{i}", mates[0], temperature=2.0))).tokens) for i in range(3)}
        for stream in streams:
            collect(stream)
    assert alone == among
    assert len(unseeded) == 3


def test_every_token_is_the_one_that_its_seed_and_position_choose(model):
    prompt = prompts(12, 1)[0]
    params = SamplingParams(temperature=1.5, top_p=0.95, seed=8, max_tokens=12)
    with running(model) as engine:
        tokens = collect(engine.submit(Request("a", tuple(prompt), params))).tokens
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    assert tokens == VectorSampler().sample(logits, [Draw(params, 8, position) for position in range(12)])


def test_logprobs_are_those_of_the_model(model):
    prompt = prompts(8, 1)[0]
    with running(model) as engine:
        answer = collect(engine.submit(request("a", prompt, temperature=0.7, seed=1, logprobs=3)))
    assert [entry.token for entry in answer.logprobs] == answer.tokens
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    for row, entry in zip(expected, answer.logprobs, strict=True):
        assert entry.logprob == pytest.approx(row[entry.token].item(), abs=1e-4)
        assert [token for token, _ in entry.top] == row.topk(3).indices.tolist()


def test_every_request_ends_exactly_once_whoever_cancels_when(model):
    rng = random.Random(9)
    with running(model, num_blocks=20, max_num_seqs=3) as engine:
        streams = {}
        for index, prompt in enumerate(prompts(9, 24)):
            streams[index] = engine.submit(request(index, prompt, max_tokens=rng.randint(1, 20)))
            for _ in range(rng.randrange(3)):
                streams[rng.randrange(index + 1)].cancel()
        engine.cancel("never heard of")
        reasons = {collect(stream).end.reason for stream in streams.values()}
        for stream in streams.values():
            stream.cancel()
        stats = engine.stats()
    assert reasons == {"cancelled", "length"}
    assert sum(stats.finished.values()) == 24
    assert (stats.kv_used, stats.waiting, stats.running) == (0, 0, 0)


def test_cancelling_frees_the_blocks_of_an_endless_request(model):
    with running(model) as engine:
        stream = engine.submit(request("a", [1, 2, 3], max_tokens=200))
        assert stream.next(PATIENCE)
        stream.cancel()
        assert collect(stream).end.reason == "cancelled"
        assert engine.call(lambda: engine.stats().kv_used) == 0


def test_only_the_request_that_breaks_a_step_fails(model):
    asked = [[1, 2, 3], [4, 60, 5], [6, 7, 8]]
    with running(model, backend=Poisoned(backend_of(model), 60)) as engine:
        engine.pause()
        streams = [engine.submit(request(index, prompt, max_tokens=4)) for index, prompt in enumerate(asked)]
        engine.resume()
        answers = [collect(stream) for stream in streams]
        assert answers[1].end.reason == "error" and "RuntimeError" in answers[1].end.error
        assert [answers[i].tokens for i in (0, 2)] == [generate(model, asked[i], 4) for i in (0, 2)]
        assert engine.healthy() and engine.stats().kv_used == 0
        assert collect(engine.submit(request("later", [9], max_tokens=2))).end.reason == "length"


def test_a_policy_that_fails_is_replaced_and_nobody_notices(model):
    class Broken:
        name = "broken"

        def plan(self, view, limits, now):
            return StepPlan(work=(("nobody", 1),))

        def observe(self, report):
            raise RuntimeError("observers fail, too")

    with running(model) as engine:
        engine.call(lambda: setattr(engine._scheduler, "policy", Broken()))
        assert collect(engine.submit(request("a", [1, 2]))).tokens == generate(model, [1, 2])
        assert engine.stats().policy == "mixed-chunked"


def test_the_policy_can_change_while_requests_run(model):
    asked = prompts(10, 8)
    with running(model) as engine:
        streams = [engine.submit(request(index, prompt)) for index, prompt in enumerate(asked)]
        for policy in POLICIES * 3:
            engine.swap_policy(policy)
        assert [collect(stream).tokens for stream in streams] == [generate(model, prompt) for prompt in asked]
        assert engine.stats().policy == POLICIES[-1]
        with pytest.raises(UnknownPolicy):
            engine.swap_policy("none")


def test_a_client_that_never_reads_is_cancelled_and_told_so(model):
    with running(model, mailbox_tokens=5) as engine:
        slow = engine.submit(request("slow", [1], max_tokens=200))
        assert engine.drain(PATIENCE)
        answer = collect(slow)
        assert (answer.end.reason, answer.end.error, len(answer.tokens)) == ("error", "slow_consumer", 5)
        assert engine.stats().kv_used == 0


@pytest.mark.parametrize("policy", POLICIES)
def test_an_answer_goes_no_further_ahead_of_its_reader_than_it_may(model, policy):
    with running(model, policy=policy, mailbox_tokens=30, stall_seconds=0.2) as engine:
        paced = engine.submit(replace(request("paced", [1], max_tokens=25), ahead=3))
        other = collect(engine.submit(request("other", [2], max_tokens=30)))
        wait_for(lambda: paced.unread == 3)
        time.sleep(0.3)
        assert (engine.stats().generated_tokens, engine.healthy()) == (33, True), "who waits for a reader does not stall"
        answer = collect(paced)
    assert (answer.tokens, answer.end.reason) == (generate(model, [1], 25), "length")
    assert other.tokens == generate(model, [2], 30)


def test_an_answer_whose_last_token_is_lost_does_not_look_complete(model):
    with running(model, mailbox_tokens=5) as engine:
        slow = engine.submit(request("slow", [1], max_tokens=6))
        assert engine.drain(PATIENCE)
        assert collect(slow).end.error == "slow_consumer"


def test_unread_tokens_melt_into_one_event(model):
    with running(model) as engine:
        stream = engine.submit(request("a", [1], max_tokens=9))
        engine.drain(PATIENCE)
        event, end = stream.next(0)
    assert isinstance(event, TokensGenerated) and len(event.tokens) == 9 and end.completion_tokens == 9


def test_what_can_never_fit_is_refused_with_the_numbers(model):
    with running(model, num_blocks=10, context_length=32) as engine:
        with pytest.raises(ContextLengthExceeded, match="30 prompt tokens and max_tokens=12 make 42.*32"):
            engine.submit(request("a", [1] * 30))
        assert collect(engine.submit(request("b", [1] * 20))).end.reason == "length"
    with running(model, num_blocks=2) as engine, pytest.raises(ContextLengthExceeded, match="8 fit"):
        engine.submit(request("a", [1]))


def test_the_largest_request_that_fits_the_pool_is_served(model):
    prompt = [1] * 20
    with running(model, num_blocks=8) as engine:
        assert collect(engine.submit(request("a", prompt))).tokens == generate(model, prompt)


@pytest.mark.parametrize(
    "bad", [request("a", []), request("a", [VOCAB]), request("a", [-1]), request("a", [1], max_tokens=0)]
)
def test_requests_that_make_no_sense_are_refused(model, bad):
    with running(model) as engine, pytest.raises(InvalidRequest):
        engine.submit(bad)


def test_more_than_the_queue_holds_is_refused_until_there_is_room(model):
    with running(model, max_num_seqs=1, queue_limit=1) as engine:
        engine.pause()
        streams = [engine.submit(request(index, [1])) for index in range(2)]
        with pytest.raises(InvalidRequest, match='"0" is in use'):
            engine.submit(request(0, [1]))
        with pytest.raises(QueueFull) as refusal:
            engine.submit(request(2, [1]))
        assert refusal.value.retry_after >= 1
        engine.resume()
        for stream in streams:
            collect(stream)
        collect(engine.submit(request(2, [1])))


def test_a_full_queue_says_how_long_requests_take_at_the_moment(model):
    now, gate = [0.0], Gate(backend_of(model))
    config = SchedulerConfig(num_blocks=64, block_size=4, max_num_seqs=1, queue_limit=0)
    engine = EngineLoop(gate, VectorSampler(), config, context_length=64, clock=lambda: now[0]).start()
    stream = engine.submit(request("slow", [1], max_tokens=1))
    assert gate.entered.wait(PATIENCE)
    with pytest.raises(QueueFull) as soon:
        engine.submit(request("refused", [1]))
    now[0] = 200.0
    gate.opened.set()
    collect(stream)
    engine.pause()
    engine.submit(request("next", [1]))
    with pytest.raises(QueueFull) as later:
        engine.submit(request("refused", [1]))
    assert soon.value.retry_after == 1.0 and 10 < later.value.retry_after <= 60
    engine.close()


def test_draining_finishes_what_runs_and_takes_nothing_new(model):
    with running(model) as engine:
        streams = [engine.submit(request(index, [1], max_tokens=50)) for index in range(6)]
        assert engine.drain(PATIENCE)
        with pytest.raises(Draining):
            engine.submit(request("late", [1]))
        assert {collect(stream).end.reason for stream in streams} == {"length"}


def test_a_drain_that_runs_out_of_time_says_so(model):
    with running(model) as engine:
        engine.pause()
        stream = engine.submit(request("a", [1]))
        assert not engine.drain(0)
    assert collect(stream).end.reason == "cancelled"


def test_closing_leaves_nobody_waiting(model):
    with running(model, max_num_seqs=2) as engine:
        streams = [engine.submit(request(index, [1], max_tokens=200)) for index in range(6)]
        engine.close()
        assert {collect(stream).end.reason for stream in streams} == {"cancelled"}
        with pytest.raises(Draining):
            engine.submit(request("late", [1]))
        with pytest.raises(Draining):
            engine.pause()
        assert not engine.healthy()


def test_an_engine_that_was_never_started_can_be_closed(model):
    config = SchedulerConfig(num_blocks=64, block_size=4)
    engine = EngineLoop(backend_of(model), VectorSampler(), config, context_length=64)
    stream = engine.submit(request("a", [1]))
    engine.close()
    assert collect(stream).end.reason == "cancelled"


def test_a_step_that_never_ends_is_unhealthy(model):
    now = [0.0]
    gate = Gate(backend_of(model))
    config = SchedulerConfig(num_blocks=64, block_size=4, stall_seconds=5)
    engine = EngineLoop(gate, VectorSampler(), config, context_length=64, clock=lambda: now[0]).start()
    now[0] = 100.0
    assert engine.healthy(), "an idle engine is healthy however long it idles"
    stream = engine.submit(request("a", [1], max_tokens=1))
    assert gate.entered.wait(PATIENCE) and engine.healthy()
    now[0] = 106.0
    assert not engine.healthy()
    gate.opened.set()
    collect(stream)
    assert engine.healthy()
    engine.close()


def test_a_deadline_in_the_past_ends_a_request_before_it_costs_anything(model):
    with running(model) as engine:
        late = Request("late", (1, 2), SamplingParams(max_tokens=4), deadline=0.001)
        answer = collect(engine.submit(late))
        assert (answer.end.error, answer.tokens, engine.stats().generated_tokens) == ("deadline_exceeded", [], 0)


def test_new_weights_answer_from_the_next_step_on(model):
    other = type(model)(model.config).eval()
    prompt = prompts(11, 1)[0]
    engine_model = type(model)(model.config).eval()
    engine_model.load_state_dict(model.state_dict())
    with running(engine_model) as engine:
        assert collect(engine.submit(request("before", prompt))).tokens == generate(model, prompt)
        engine.update_weights(other.state_dict())
        answer = collect(engine.submit(request("after", prompt)))
        assert answer.tokens == generate(other, prompt) and answer.end.cached_tokens == 0
        with pytest.raises(ValueError, match="another model"):
            engine.update_weights({"nonsense": torch.zeros(1)})


def test_the_recorder_has_every_step_and_every_token(model):
    recorder = StepRecorder()
    with running(model, observer=recorder) as engine:
        answers = [collect(engine.submit(request(index, [1, 2, 3, 4, 5 + index]))) for index in range(3)]
        engine.close()
        steps = engine.stats().steps
    assert [report.step for report in recorder.reports] == list(range(1, steps + 1))
    work = [item for report in recorder.reports for item in report.work]
    prefilled = sum(item.tokens for item in work if item.kind == "prefill")
    assert prefilled == 15 - sum(answer.end.cached_tokens for answer in answers)
    assert sum(item.kind == "decode" for item in work) == 3 * 11
    assert all(report.duration >= 0 and report.kv_used <= report.kv_total for report in recorder.reports)
