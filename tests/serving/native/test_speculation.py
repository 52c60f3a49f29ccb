"""With the native kernels speculative decoding changes no bit: they add in the same order however a step is composed."""

from __future__ import annotations

import random
from contextlib import closing

import pytest

from serving.application.engine import EngineLoop
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.draft_model import DraftModel
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.prompt_lookup import PromptLookup
from serving.infrastructure.sampler import VectorSampler

from .models import CONFIGS, VOCAB, build

KINDS = (
    {"temperature": 0.0},
    {"temperature": 0.0, "logprobs": 2},
    {"temperature": 1.0, "logprobs": 1},
    {"temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.2},
)


def native(seed: int) -> NativeBackend:
    model = build(CONFIGS["llama"](), seed)
    return NativeBackend(model.config, model.state_dict(), num_blocks=64)


def drafter(kind: str):
    if kind == "ngram":
        return PromptLookup(1, 3)
    return DraftModel(
        native(int(kind == "another model")), VectorSampler(), vocab_size=VOCAB, context_length=256, step_tokens=16
    )


def answers(requests, drafter=None):
    """Of an engine with two kinds of steps: decodes alone, and decodes beside chunks of prompts."""
    config = SchedulerConfig(max_num_seqs=4, mixed_prefill_tokens=5, speculative_max_seqs=4)
    engine = EngineLoop(native(0), VectorSampler(), config, context_length=256, drafter=drafter)
    with closing(engine.start()):
        engine.pause()
        streams = [engine.submit(request) for request in requests]
        engine.resume()
        found = []
        for stream in streams:
            tokens, logprobs, end = [], [], None
            while end is None:
                for event in stream.next(20.0):
                    if isinstance(event, Finished):
                        end = event.reason
                    else:
                        tokens += event.tokens
                        logprobs += event.logprobs
            found.append((tokens, logprobs, end))
    return found, engine.stats()


@pytest.mark.parametrize("kind", ["ngram", "the same model", "another model"])
def test_tokens_and_their_logprobs_are_the_same_to_the_last_bit(kind):
    rng = random.Random(0)
    requests = []
    for index in range(12):
        phrase = tuple(rng.randrange(VOCAB) for _ in range(rng.randint(2, 9)))
        sampling = SamplingParams(**KINDS[index % len(KINDS)], seed=index, max_tokens=rng.randint(2, 40))
        requests.append(Request(str(index), phrase * rng.randint(1, 5), sampling))
    plain, _ = answers(requests)
    guessed, stats = answers(requests, drafter(kind))
    assert guessed == plain
    assert stats.draft_tokens > 0
    if kind == "the same model":
        assert stats.accepted_tokens == stats.draft_tokens
