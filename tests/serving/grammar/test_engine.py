"""A constrained answer is the same alone and in any company, disturbed or not, and its neighbours do not notice it."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from dataclasses import replace

import jsonschema
import pytest
from engine.support import collect

from serving.application.constraints import _go_on
from serving.application.engine import EngineLoop
from serving.bench.schemas import draw
from serving.composition import ServingConfig
from serving.domain.errors import InvalidRequest
from serving.domain.grammar import Grammar
from serving.domain.plan import StepReport
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.loading import load_backend
from serving.infrastructure.native.library import NativeUnavailable, best_level
from serving.infrastructure.prompt_lookup import PromptLookup
from serving.infrastructure.sampler import VectorSampler

from .conftest import VOCAB


def native_is_there() -> bool:
    try:
        return bool(best_level())
    except NativeUnavailable:
        return False


BACKENDS = [
    {"backend": "packed", "dtype": "float32"},
    {"backend": "padded", "dtype": "float32"},
    pytest.param({}, marks=pytest.mark.skipif(not native_is_there(), reason="no compiler")),
]


class Oracle:
    """A `Drafter` that guesses what follows in given answers, and now and then what the grammar forbids."""

    def __init__(self, answers, wrong: int = 5) -> None:
        self.answers, self.wrong, self.asked = answers, wrong, 0

    def propose(self, openings):
        guesses = []
        for opening in openings:
            at = opening.draw.position
            guess = list(self.answers[opening.id][at : at + opening.most])
            self.asked += 1
            if self.asked % self.wrong == 0 and guess:
                guess[-1] = (guess[-1] + 1) % VOCAB
            guesses.append(guess)
        return guesses

    def release(self, sequence_id):
        pass


@contextmanager
def running(directory, tokenizer, grammars, drafter=None, num_blocks=64, restart_every=None, steps=None, **knobs):
    """`restart_every`: after so many steps everybody is preempted. `steps`: a list that they are added to."""
    knobs = {"max_num_seqs": 8, "speculative_max_seqs": 8, "max_num_batched_tokens": 64, **knobs}
    config = ServingConfig(num_blocks=num_blocks, **knobs)

    def observe(what):
        if steps is not None and isinstance(what, StepReport):
            steps.append(what)
        if restart_every and isinstance(what, StepReport) and what.step % restart_every == 0:
            engine._scheduler.restart_all()

    engine = EngineLoop(
        load_backend(directory, config),
        VectorSampler(),
        config,
        context_length=tokenizer.context_length,
        drafter=drafter,
        grammars=grammars,
        observer=observe,
    ).start()
    try:
        yield engine
    finally:
        engine.close()


def requests(tokenizer, count=8, **sampling):
    """Half of them under random schemas, with every kind of setting beside it."""
    rng = random.Random(5)
    found = []
    for at in range(count):
        schema, _ = draw(rng, 2)
        extra = [
            {"temperature": 0.0},
            {"temperature": 1.0, "seed": at},
            {"temperature": 1.0, "seed": at, "top_p": 0.8, "top_k": 20},
            {"temperature": 0.0, "min_tokens": 6, "frequency_penalty": 1.0, "repetition_penalty": 1.2},
        ][at // 2 % 4]
        grammar = Grammar("json_schema", json.dumps(schema)) if at % 2 else None
        params = SamplingParams(
            **{**extra, "max_tokens": 90 if grammar else 24, **sampling},
            stop_token_ids=tokenizer.stop_token_ids,
            grammar=grammar,
        )
        prompt = tokenizer.encode(f"the quick fox {at} jumps")
        found.append(Request(f"r{at}", tuple(prompt), params))
    return found


def answers(engine, asked, together=True):
    if together:
        engine.pause()
        streams = [engine.submit(request) for request in asked]
        engine.resume()
        found = [collect(stream) for stream in streams]
    else:
        found = [collect(engine.submit(request)) for request in asked]
    return {request.id: (answer.tokens, answer.end.reason) for request, answer in zip(asked, found, strict=True)}


def check(tokenizer, asked, found):
    finished = 0
    for request in asked:
        tokens, reason = found[request.id]
        if (grammar := request.sampling.grammar) is None:
            continue
        assert reason in ("stop", "length")
        if reason == "stop":
            finished += 1
            jsonschema.validate(json.loads(tokenizer.decode(tokens)), json.loads(grammar.text))
    assert finished >= 3


@pytest.mark.parametrize("knobs", BACKENDS)
def test_batched_is_alone_preempted_and_guessed_is_undisturbed(directory, tokenizer, grammars, knobs):
    asked = requests(tokenizer)
    with running(directory, tokenizer, grammars, **knobs) as engine:
        alone = answers(engine, asked, together=False)
        assert answers(engine, asked) == alone
        parts = engine.stats().parts
        assert parts["grammar masks"] > 0 and min(parts.values()) >= 0
        assert not engine._constraints._followed  # nothing is kept of answers that have ended
    check(tokenizer, asked, alone)
    with running(directory, tokenizer, grammars, restart_every=5, **knobs) as engine:
        assert answers(engine, asked) == alone
        assert engine.stats().preemptions
    oracle = Oracle({name: tokens for name, (tokens, _) in alone.items()})
    with running(directory, tokenizer, grammars, drafter=oracle, **knobs) as engine:
        assert answers(engine, asked) == alone
        assert engine.stats().accepted_tokens
    with running(directory, tokenizer, grammars, drafter=PromptLookup(1, 3), **knobs) as engine:
        assert answers(engine, asked) == alone


def test_neighbours_do_not_notice(directory, tokenizer, grammars):
    asked = requests(tokenizer)
    free = [request for request in asked if request.sampling.grammar is None]
    with running(directory, tokenizer, grammars, dtype="float32", backend="packed") as engine:
        among_themselves = answers(engine, free)
        assert {name: answer for name, answer in answers(engine, asked).items() if name in among_themselves} == among_themselves


@pytest.mark.skipif(not native_is_there(), reason="no compiler")
def test_neighbours_take_several_tokens_a_step_again_when_the_constrained_one_has_ended(directory, tokenizer, grammars):
    held = one(tokenizer, Grammar("regex", "[0-9]{12}"), temperature=0.0)
    free = one(tokenizer, None, temperature=0.0, max_tokens=80)
    asked = [held, *(replace(free, id=f"free {at}") for at in range(3))]
    with running(directory, tokenizer, grammars, multi_step_seconds=0.0) as engine:
        single = answers(engine, asked)
    steps = []
    with running(directory, tokenizer, grammars, multi_step_seconds=1.0, steps=steps) as engine:
        assert answers(engine, asked) == single
    with_it = [step for step in steps if any(item.id == held.id for item in step.work)]
    assert all(step.passes == 1 for step in with_it) and any(step.passes > 1 for step in steps)


def one(tokenizer, grammar, **sampling):
    params = {"temperature": 1.0, "seed": 1, "max_tokens": 40, "stop_token_ids": tokenizer.stop_token_ids, **sampling}
    return Request("one", tuple(tokenizer.encode("the fox")), SamplingParams(**params, grammar=grammar))


@pytest.fixture(scope="module")
def engine(directory, tokenizer, grammars):
    with running(directory, tokenizer, grammars, dtype="float32", backend="packed") as engine:
        yield engine


def test_the_end_of_a_grammar_ends_the_answer(engine, tokenizer):
    answer = collect(engine.submit(one(tokenizer, Grammar("regex", "fox"))))
    assert (tokenizer.decode(answer.tokens), answer.end.reason) == ("fox", "stop")


def test_min_tokens_makes_an_answer_as_long_as_its_grammar_lets_it(engine, tokenizer):
    grammar = Grammar("regex", "[ab]{1,9}")
    short = {len(collect(engine.submit(one(tokenizer, grammar, seed=seed))).tokens) for seed in range(12)}
    assert min(short) < 6
    nobodys = frozenset({2**31 - 1})
    assert _go_on(b"\x07", nobodys) == b"\x07" and _go_on(b"\x07", nobodys | {0}) == b"\x06"
    for seed in range(6):
        answer = collect(engine.submit(one(tokenizer, grammar, seed=seed, min_tokens=6)))
        assert answer.end.reason == "stop" and len(answer.tokens) >= 6
        answer = collect(engine.submit(one(tokenizer, Grammar("choice", '["ab", "b"]'), seed=seed, min_tokens=30)))
        assert tokenizer.decode(answer.tokens) in ("ab", "b") and answer.end.reason == "stop"


def test_no_bias_makes_the_impossible_possible(engine, tokenizer):
    (wanted,) = tokenizer.encode("z")
    answer = collect(engine.submit(one(tokenizer, Grammar("regex", "[ab]{4}"), logit_bias={wanted: 100.0})))
    assert set(tokenizer.decode(answer.tokens)) <= {"a", "b"}


def test_log_probabilities_are_the_models_own(engine, tokenizer):
    free = collect(engine.submit(one(tokenizer, None, temperature=0.0, logprobs=5, max_tokens=1)))
    held = collect(engine.submit(one(tokenizer, Grammar("regex", "[ab]{4}"), temperature=0.0, logprobs=5, max_tokens=1)))
    assert held.logprobs[0].top == free.logprobs[0].top
    assert held.logprobs[0].logprob < free.logprobs[0].logprob


def test_a_grammar_is_compiled_once(engine, tokenizer, grammars):
    before = len(grammars._kept)
    for _ in range(3):
        collect(engine.submit(one(tokenizer, Grammar("regex", "only [0-9] once"))))
    assert len(grammars._kept) == before + 1


def test_an_engine_without_grammars_says_so(directory, tokenizer):
    with running(directory, tokenizer, None, dtype="float32") as engine, pytest.raises(InvalidRequest, match="grammar"):
        engine.submit(one(tokenizer, Grammar("regex", "a")))
