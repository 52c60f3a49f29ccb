"""Speculative decoding on real tiny models: token for token the answers without it, whoever guesses."""

from __future__ import annotations

import copy
import random
import time
from dataclasses import replace
from itertools import product

import pytest
import torch

from serving.application.engine import EngineLoop
from serving.application.ports import Draw
from serving.domain.config import SchedulerConfig
from serving.domain.events import TokensGenerated
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.draft_model import DraftModel
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.prompt_lookup import PromptLookup
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

from .support import PATIENCE, VOCAB, collect, generate, prompts, request, running


class RandomGuesses:
    """Nearly always wrong, and of any length."""

    def __init__(self):
        self.rng = random.Random(0)

    def propose(self, openings):
        return [[self.rng.randrange(VOCAB) for _ in range(self.rng.randint(0, opening.most))] for opening in openings]

    def release(self, sequence_id):
        pass


class Known:
    """Guesses the continuation of one known text, whoever asks."""

    def __init__(self, text):
        self.text = text

    def propose(self, openings):
        return [self.text[len(o.draw.tokens) : len(o.draw.tokens) + o.most] for o in openings]

    def release(self, sequence_id):
        pass


def perturbed(model, amount):
    """A model that agrees with `model` often, and not always."""
    other = copy.deepcopy(model)  # with a config of its own, where its attention is written
    other.set_attn_implementation("eager")
    torch.manual_seed(4)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(amount * parameter.abs().mean() * torch.randn_like(parameter))
    return other


def draft_model(model, *, num_blocks=200, context_length=256, step_tokens=16):
    backend = PackedTorchBackend(model, num_blocks=num_blocks, block_size=4)
    return DraftModel(
        backend, VectorSampler(), vocab_size=VOCAB, context_length=context_length, step_tokens=step_tokens
    )


DRAFTERS = {
    "ngram": lambda model: PromptLookup(1, 3),
    "twin": lambda model: draft_model(perturbed(model, 0)),
    "cousin": lambda model: draft_model(perturbed(model, 0.1), step_tokens=7),
    "cousin without memory": lambda model: draft_model(perturbed(model, 0.1), num_blocks=20),
    "random": lambda model: RandomGuesses(),
}


def mixed_requests(seed, count):
    """Of every kind, also with repetitive prompts."""
    rng = random.Random(seed)
    kinds = [
        {},
        {"temperature": 1.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.3, "top_k": 7, "min_p": 0.05},
        {"repetition_penalty": 1.3},
        {"temperature": 0.8, "presence_penalty": 0.5, "frequency_penalty": 0.4},
        {"logit_bias": {3: 4.0, 5: -100.0}, "temperature": 0.9},
        {"logprobs": 3},
        {"temperature": 1.0, "logprobs": 0},
        {"stop_token_ids": frozenset(range(0, VOCAB, 7))},
        {"stop_token_ids": frozenset(range(0, VOCAB, 5)), "min_tokens": 6, "temperature": 0.9},
    ]
    for index in range(count):
        phrase = [rng.randrange(VOCAB) for _ in range(rng.randint(1, 9))]
        kind = {**rng.choice(kinds), "seed": rng.randrange(2**40), "max_tokens": rng.randint(1, 20)}
        yield request(index, phrase * rng.randint(1, 4), **kind)


def answers(model, asked, **engine):
    with running(model, **engine) as loop:
        loop.pause()
        streams = [loop.submit(one) for one in asked]
        loop.resume()
        got = [collect(stream) for stream in streams]
        stats = loop.call(loop.stats)
    assert stats.kv_used == 0
    return got, stats


def same(got, expected):
    for one, other in zip(got, expected, strict=True):
        assert (one.tokens, one.end.reason) == (other.tokens, other.end.reason)
        assert one.end.completion_tokens == other.end.completion_tokens
        assert [entry.token for entry in one.logprobs] == [entry.token for entry in other.logprobs]
        for mine, theirs in zip(one.logprobs, other.logprobs, strict=True):
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-4)
            assert [token for token, _ in mine.top] == [token for token, _ in theirs.top]


ENGINES = {
    "one at a time": {"max_num_seqs": 1},
    "chunked": {"prefill_chunk": 3, "mixed_prefill_tokens": 2, "max_num_seqs": 6},
    "preempted": {"num_blocks": 14, "expected_output": 1, "watermark": 0.0},
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("drafter", DRAFTERS)
def test_any_request_gets_the_answer_it_gets_without(model, drafter, engine):
    knobs = {"speculative_max_seqs": 6, "max_num_batched_tokens": 24, **ENGINES[engine]}
    accepted = preemptions = 0
    for seed, most in ((1, 4), (2, 9)):
        asked = list(mixed_requests(seed, 11))
        plain, _ = answers(model, asked, **knobs)
        got, stats = answers(model, asked, drafter=DRAFTERS[drafter](model), num_speculative_tokens=most, **knobs)
        same(got, plain)
        assert 0 < stats.draft_tokens >= stats.accepted_tokens
        accepted += stats.accepted_tokens
        preemptions += stats.preemptions
    assert accepted or drafter == "random"
    assert preemptions or engine != "preempted"


@pytest.mark.parametrize("drafter", ["random", "cousin"])
def test_other_architectures_and_backends(any_model, drafter):
    asked = list(mixed_requests(5, 8))
    plain, _ = answers(any_model, asked)
    for backend in (None, PaddedTorchBackend(perturbed(any_model, 0), num_blocks=64, block_size=4)):
        got, stats = answers(any_model, asked, drafter=DRAFTERS[drafter](any_model), backend=backend)
        same(got, plain)
        assert stats.draft_tokens and (stats.accepted_tokens or drafter == "random")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_draft_model_that_equals_the_target_is_nearly_always_right(model, temperature):
    asked = [
        request(index, prompt, temperature=temperature, seed=index, max_tokens=40)
        for index, prompt in enumerate(prompts(2, 3))
    ]
    got, stats = answers(model, asked, drafter=DRAFTERS["twin"](model), max_num_batched_tokens=64)
    assert stats.accepted_tokens >= 0.97 * stats.draft_tokens > 60
    assert stats.steps < 20, "up to five tokens a step"
    if not temperature:
        assert [one.tokens for one in got] == [generate(model, one.prompt_tokens, 40) for one in asked]


@pytest.mark.parametrize(("at", "most"), product((1, 2, 3, 7), (2, 5)))
def test_a_stop_token_in_the_middle_of_right_guesses_ends_the_answer_there(model, at, most):
    prompt = prompts(6, 1)[0]
    answer = generate(model, prompt, 20)
    stop = answer[at]
    where = answer.index(stop)
    asked = request("a", prompt, max_tokens=20, stop_token_ids=frozenset({stop}))
    (got,), _ = answers(model, [asked], drafter=Known([*prompt, *answer]), num_speculative_tokens=most)
    assert (got.tokens, got.end.reason, got.end.completion_tokens) == (answer[:where], "stop", where)


@pytest.mark.parametrize("max_tokens", range(1, 9))
def test_max_tokens_in_the_middle_of_right_guesses(model, max_tokens):
    prompt = prompts(6, 1)[0]
    answer = generate(model, prompt, 20)
    (got,), stats = answers(model, [request("a", prompt, max_tokens=max_tokens)], drafter=Known([*prompt, *answer]))
    assert (got.tokens, got.end.reason) == (answer[:max_tokens], "length")
    assert stats.draft_tokens < max_tokens and stats.generated_tokens == max_tokens


def test_several_tokens_come_in_one_event_with_their_logprobs(model):
    prompt = prompts(6, 1)[0]
    drafter = Known([*prompt, *generate(model, prompt)])
    with running(model, drafter=drafter) as engine:
        stream = engine.submit(request("a", prompt, logprobs=2))
        events = []
        while not events or isinstance(events[-1], TokensGenerated):
            events += stream.next(PATIENCE)
    sizes = [len(event.tokens) for event in events[:-1]]
    assert sizes == [len(event.logprobs) for event in events[:-1]]
    assert sum(sizes) == 12 and max(sizes) > 1


def test_right_guesses_go_no_further_ahead_of_a_reader_than_an_answer_may(model):
    prompt = prompts(6, 1)[0]
    answer = generate(model, prompt, 25)
    with running(model, drafter=Known([*prompt, *answer])) as engine:
        paced = engine.submit(replace(request("paced", prompt, max_tokens=25), ahead=3))
        until = time.monotonic() + PATIENCE
        while paced.unread < 3 and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        assert paced.unread == 3
        assert collect(paced).tokens == answer
        assert engine.stats().accepted_tokens


def test_what_was_answered_is_found_in_the_prefix_cache_and_right(model):
    prompt = prompts(7, 1)[0]
    for drafter in (RandomGuesses(), DRAFTERS["cousin"](model)):
        with running(model, drafter=drafter) as engine:
            first = collect(engine.submit(request("first", prompt, max_tokens=30)))
            longer = [*prompt, *first.tokens]
            second = collect(engine.submit(request("second", longer, max_tokens=30)))
        assert second.end.cached_tokens >= len(longer) - 8
        assert first.tokens + second.tokens == generate(model, prompt, 60)


class Chain:
    """The `ModelBackend` of a Markov chain: what follows depends on the last token alone."""

    num_blocks, block_size, shares_prefixes, can_rewind, goes_ahead = 512, 4, True, True, False

    def __init__(self, logits):
        self.logits = logits
        self.vocab_size = len(logits)

    def execute(self, batch):
        return torch.cat([self.logits[item.tokens[len(item.tokens) - item.num_logits :]] for item in batch])

    def seconds(self):
        return {}

    def release(self, sequence_id):
        pass


def test_looking_up_is_right_where_the_text_repeats_itself():
    torch.manual_seed(1)
    backend, answer = Chain(torch.randn(40, 40)), [3]
    for _ in range(60):
        answer.append(backend.logits[answer[-1]].argmax().item())
    (got,), stats = answers(None, [request("a", [3], max_tokens=60)], backend=backend, drafter=PromptLookup(2, 4))
    assert got.tokens == answer[1:]
    assert stats.accepted_tokens == stats.draft_tokens >= 30 and stats.steps <= 30


@pytest.mark.parametrize("kind", ["ngram", "draft"])
def test_unseeded_answers_follow_the_models_distribution(kind):
    """Every answer of three tokens, counted against its probability: chi-square."""
    torch.manual_seed(0)
    chain = torch.randn(4, 4)
    drafter = PromptLookup(1, 2)
    if kind == "draft":
        drafter = DraftModel(Chain(0.5 * chain), VectorSampler(), vocab_size=4, context_length=64, step_tokens=512)
    config = SchedulerConfig(max_num_seqs=64, max_num_batched_tokens=512, speculative_max_seqs=64, queue_limit=4000)
    engine = EngineLoop(Chain(chain), VectorSampler(), config, context_length=64, drafter=drafter).start()
    asked = SamplingParams(max_tokens=4)
    streams = [engine.submit(Request(str(index), (0, 1, 2, 3, 0), asked)) for index in range(4000)]
    counts = torch.zeros(4, 4, 4)
    for stream in streams:
        first, second, third, _ = collect(stream).tokens
        counts[first, second, third] += 1
    stats = engine.stats()
    engine.close()
    step = chain.softmax(-1)
    expected = len(streams) * step[0][:, None, None] * step[:, :, None] * step[None]
    assert ((counts - expected) ** 2 / expected).sum() < 120  # 63 degrees of freedom: once in 50,000
    assert 0.05 < stats.accepted_tokens / stats.draft_tokens < 0.95


def test_seeds_choose_the_same_tokens_as_ever(model):
    prompt = prompts(12, 1)[0]
    params = SamplingParams(temperature=1.5, top_p=0.95, seed=8, max_tokens=12)
    with running(model, drafter=DRAFTERS["cousin"](model)) as engine:
        tokens = collect(engine.submit(Request("a", tuple(prompt), params))).tokens
    model.set_attn_implementation("eager")
    with torch.no_grad():
        logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    assert tokens == VectorSampler().sample(logits, [Draw(params, 8, position) for position in range(12)])


def test_a_drafter_that_fails_is_not_asked_again_and_nobody_notices(model, caplog):
    class Broken(RandomGuesses):
        calls = 0

        def propose(self, openings):
            self.calls += 1
            raise RuntimeError("no idea")

    asked, broken = list(mixed_requests(8, 6)), Broken()
    plain, _ = answers(model, asked)
    got, stats = answers(model, asked, drafter=broken)
    same(got, plain)
    assert (broken.calls, stats.draft_tokens) == (1, 0)
    assert "off from now on" in caplog.text


class Fragile:
    """A real backend that fails in every step with guesses."""

    def __init__(self, model, error):
        self._backend, self.error, self.failures = PackedTorchBackend(model, num_blocks=64, block_size=4), error, 0

    def __getattr__(self, name):
        return getattr(self._backend, name)

    def execute(self, batch):
        if any(item.num_logits > 1 for item in batch):
            self.failures += 1
            raise self.error
        return self._backend.execute(batch)


@pytest.mark.parametrize("error", [MemoryError("no room"), FloatingPointError("not finite")])
def test_steps_that_fail_with_guesses_are_run_without(model, error):
    for count in (1, 3):
        asked = list(mixed_requests(9, count))
        plain, _ = answers(model, asked)
        backend = Fragile(model, error)
        got, stats = answers(model, asked, backend=backend, drafter=DRAFTERS["random"](model))
        same(got, plain)
        assert backend.failures and not stats.accepted_tokens


def test_requests_that_leave_are_forgotten_everywhere(model):
    drafter = DRAFTERS["cousin"](model)
    rng = random.Random(9)
    with running(model, num_blocks=20, max_num_seqs=3, drafter=drafter) as engine:
        streams = {}
        for index, prompt in enumerate(prompts(9, 24)):
            streams[index] = engine.submit(request(index, prompt, max_tokens=rng.randint(1, 20)))
            for _ in range(rng.randrange(3)):
                streams[rng.randrange(index + 1)].cancel()
        for stream in streams.values():
            collect(stream)
        assert engine.call(engine.stats).kv_used == 0
    assert not drafter._held and drafter._pool.used == 0


def test_new_weights_answer_from_the_next_step_on(model):
    other, engine_model = perturbed(model, 0.5), perturbed(model, 0)
    prompt = prompts(11, 1)[0]
    with running(engine_model, drafter=DRAFTERS["twin"](model)) as engine:
        assert collect(engine.submit(request("before", prompt))).tokens == generate(model, prompt)
        engine.update_weights(other.state_dict())
        assert collect(engine.submit(request("after", prompt))).tokens == generate(other, prompt)


def test_a_draft_model_with_a_shorter_context_guesses_as_far_as_it_reaches(model):
    prompt = prompts(13, 1)[0]
    drafter = draft_model(perturbed(model, 0), context_length=len(prompt) + 10)
    seen = []
    execute = drafter._backend.execute

    def watch(batch):
        seen.extend(item.start + len(item.tokens) for item in batch)
        return execute(batch)

    drafter._backend.execute = watch
    (got,), stats = answers(model, [request("a", prompt, max_tokens=40)], drafter=drafter)
    assert got.tokens == generate(model, prompt, 40)
    assert max(seen) <= len(prompt) + 10 and stats.accepted_tokens >= 5


@pytest.mark.parametrize("vocab_size", [40, 90])
def test_tokens_that_only_one_of_the_models_has_are_left_alone(model, vocab_size):
    small = type(model)(type(model.config)(**{**model.config.to_dict(), "vocab_size": vocab_size})).eval()
    asked = [request("a", [50, 1, 2, 3]), request("b", [1, 2, 3]), request("c", [1, 2, 45])]
    plain, _ = answers(model, asked)
    got, _ = answers(model, asked, drafter=draft_model(small))
    same(got, plain)
