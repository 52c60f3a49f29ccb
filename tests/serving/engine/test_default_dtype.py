"""transformers changes torch's default dtype, of the whole process, while it makes a model. Engines that run must not notice."""

import pytest
import torch

from serving.application.ports import Draw, SequenceSlice
from serving.domain.request import SamplingParams
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

SAMPLINGS = [
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.3, top_p=0.8),
    SamplingParams(temperature=0.9, top_k=7, min_p=0.1),
    SamplingParams(temperature=0.0, logprobs=2),
    SamplingParams(temperature=0.8, repetition_penalty=1.3, frequency_penalty=0.7, logit_bias={3: 2.0}),
]


@pytest.fixture
def another_default():
    def change(dtype):
        torch.set_default_dtype(dtype)

    yield change
    torch.set_default_dtype(torch.float32)


def steps(backend) -> list[torch.Tensor]:
    first = [SequenceSlice("a", [1, 2, 3, 4, 5], 0, [0, 1], 5), SequenceSlice("b", [9, 8], 0, [2], 2)]
    then = [SequenceSlice("a", [6], 5, [0, 1], 1), SequenceSlice("b", [7, 3, 2], 2, [2, 3], 3)]
    decodes = [SequenceSlice("a", [1], 6, [0, 1], 1), SequenceSlice("b", [1], 5, [2, 3], 1)]
    return [backend.execute(batch).clone() for batch in (first, then, decodes)]


def test_a_step_computes_the_same(any_model, another_default):
    backend = PackedTorchBackend(any_model, num_blocks=8, block_size=4)
    expected = steps(backend)
    another_default(torch.bfloat16)
    assert all(map(torch.equal, steps(backend), expected))


def test_a_token_is_drawn_the_same(another_default):
    draws = [Draw(sampling, seed, 2, [1, 2, 3, 4]) for seed in range(1000) for sampling in SAMPLINGS]
    logits = torch.randn(len(draws), 100, generator=torch.Generator().manual_seed(0)) * 3
    expected = VectorSampler().sample(logits.clone(), draws)
    another_default(torch.bfloat16)
    assert VectorSampler().sample(logits.clone(), draws) == expected
