"""What several tests of the engine need: prompts, engines, and the answer a model gives without any of this."""

from __future__ import annotations

import random
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from serving.application.engine import EngineLoop
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished, TokenLogprob
from serving.domain.policies import BUILTIN
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

VOCAB = 61
POLICIES = tuple(BUILTIN)
PATIENCE = 20.0  # seconds until a missing event is a failure


@dataclass
class Answer:
    tokens: list[int]
    logprobs: list[TokenLogprob]
    end: Finished


@contextmanager
def running(
    model, *, backend=None, num_blocks=64, block_size=4, context_length=256, drafter=None, observer=None, **knobs
):
    """An engine on `model`, closed at the end. Small blocks and budgets, so that every boundary is met."""
    knobs = {"max_num_seqs": 4, "max_num_batched_tokens": 16, "speculative_max_seqs": 4, **knobs}
    config = SchedulerConfig(num_blocks=num_blocks, block_size=block_size, **knobs)
    backend = backend or PackedTorchBackend(model, num_blocks=num_blocks, block_size=block_size)
    engine = EngineLoop(
        backend, VectorSampler(), config, context_length=context_length, drafter=drafter, observer=observer
    ).start()
    try:
        yield engine
    finally:
        engine.close()


def collect(stream, early=()) -> Answer:
    """Everything until the terminal event, after the `early` events; nothing may follow it."""
    tokens, logprobs, events = [], [], list(early)
    while not (events and isinstance(events[-1], Finished)):
        new = stream.next(PATIENCE)
        assert new, "no event in time"
        events += new
    assert not stream.next(0)
    for event in events[:-1]:
        tokens += event.tokens
        logprobs += event.logprobs
    return Answer(tokens, logprobs, events[-1])


def request(name, prompt, *, tenant="default", **sampling) -> Request:
    sampling = {"temperature": 0.0, "max_tokens": 12, **sampling}
    return Request(str(name), tuple(prompt), SamplingParams(**sampling), tenant=tenant)


def prompts(seed: int, count: int, longest: int = 30) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def generate(model, prompt, max_tokens=12) -> list[int]:
    """transformers' own greedy answer. Not while an engine computes: the model has one attention at a time."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=0
    )
    model.set_attn_implementation(before)
    return output[0, len(prompt) :].tolist()
