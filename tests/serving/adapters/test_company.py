"""Everything at once: adapters, grammars, scored prompts and sampled rows in the same steps are what each is alone."""

from contextlib import contextmanager

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from serving.application.engine import EngineLoop
from serving.composition import ServingConfig
from serving.domain.events import Finished, PromptScored
from serving.domain.grammar import Grammar
from serving.domain.plan import StepReport
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.grammars import Grammars
from serving.infrastructure.loading import load_backend
from serving.infrastructure.lora import read_adapter
from serving.infrastructure.prompt_lookup import PromptLookup
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.tokenizer import HFTokenizer

OWNERS = (None, "first", "second")
GRAMMAR = Grammar("regex", r"(fox|dog)( [0-9]{2}){3}")
KINDS = (
    {"temperature": 0.0},
    {"temperature": 0.0, "grammar": GRAMMAR},
    {"temperature": 1.0, "seed": 7, "grammar": GRAMMAR},
    {"temperature": 1.0, "seed": 8, "prompt_logprobs": 1},
)


@pytest.fixture(scope="module")
def tokenizer(base):
    return HFTokenizer(base.path)


@pytest.fixture(scope="module")
def grammars(tokenizer):
    return Grammars(tokenizer)


@pytest.fixture(scope="module")
def asked(tokenizer):
    """Each kind for each owner, all with the same beginning, which owners must not share."""
    prompt = tuple(tokenizer.encode("the quick brown fox jumps over the lazy dog. " * 2))
    return [
        Request(
            f"{owner} {at}",
            (*prompt, *tokenizer.encode(str(at))),
            SamplingParams(max_tokens=24, stop_token_ids=tokenizer.stop_token_ids, **kind),
            adapter=owner,
        )
        for owner in OWNERS
        for at, kind in enumerate(KINDS)
    ]


@contextmanager
def running(registry, base, tokenizer, grammars, backend, *, drafter=None, restart_every=None):
    config = ServingConfig(
        dtype="float32",
        backend=backend,
        adapters=True,
        num_blocks=256,
        max_num_seqs=12,
        speculative_max_seqs=12,
        max_num_batched_tokens=64,
    )

    def observe(what):
        if restart_every and isinstance(what, StepReport) and what.step % restart_every == 0:
            engine._scheduler.restart_all()

    engine = EngineLoop(
        load_backend(base.path, config),
        VectorSampler(),
        config,
        context_length=tokenizer.context_length,
        drafter=drafter,
        grammars=grammars,
        observer=observe,
    ).start()
    try:
        engine.add_adapter("first", read_adapter(registry.load("adapter/1").path))
        engine.add_adapter("second", read_adapter(registry.load("adapter/2").path))
        yield engine
    finally:
        engine.close()


def answer(stream):
    """Tokens of the answer, scores of the prompt, why it ended."""
    tokens, scores = [], []
    while True:
        events = stream.next(20.0)
        assert events, "no event in time"
        for event in events:
            if isinstance(event, Finished):
                return tokens, scores, event.reason
            if isinstance(event, PromptScored):
                scores += event.logprobs
            else:
                tokens += event.tokens


def together(engine, asked):
    engine.pause()
    streams = [engine.submit(request) for request in asked]
    engine.resume()
    return {request.id: answer(stream) for request, stream in zip(asked, streams, strict=True)}


def told(answers):
    """What has to be the same to the letter; how likely a token was is the same but for rounding."""
    return {name: (tokens, [score.token for score in scores], end) for name, (tokens, scores, end) in answers.items()}


@pytest.mark.parametrize("backend", ["packed", "padded"])
def test_in_any_company_and_disturbed_each_is_what_it_is_alone(registry, base, tokenizer, grammars, asked, backend):
    with running(registry, base, tokenizer, grammars, backend) as engine:
        alone = told({request.id: answer(engine.submit(request)) for request in asked})
        assert told(together(engine, asked)) == alone
    for at, kind in enumerate(KINDS):
        if "grammar" in kind:
            assert all(alone[f"{owner} {at}"][2] == "stop" for owner in OWNERS)
    assert len({tuple(alone[f"{owner} 0"][0]) for owner in OWNERS}) == 3, "each owner says something else"
    with running(registry, base, tokenizer, grammars, backend, restart_every=4) as engine:
        assert told(together(engine, asked)) == alone
        assert engine.stats().preemptions
    with running(registry, base, tokenizer, grammars, backend, drafter=PromptLookup(1, 3)) as engine:
        assert told(together(engine, asked)) == alone
        assert engine.stats().accepted_tokens


def test_prompts_are_as_likely_as_their_adapter_says(registry, base, tokenizer, grammars, asked):
    with running(registry, base, tokenizer, grammars, "packed") as engine:
        found = together(engine, asked)
    for owner, ref in (("first", "adapter/1"), ("second", "adapter/2")):
        (request,) = [one for one in asked if one.adapter == owner and one.sampling.prompt_logprobs]
        plain = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
        adapted = PeftModel.from_pretrained(plain, registry.load(ref).path).eval()
        with torch.inference_mode():
            rows = adapted(torch.tensor([request.prompt_tokens])).logits[0].log_softmax(-1)
        scores = found[request.id][1]
        assert [score.token for score in scores] == list(request.prompt_tokens[1:])
        for row, score in zip(rows, scores, strict=False):
            assert score.logprob == pytest.approx(row[score.token].item(), abs=1e-3)
