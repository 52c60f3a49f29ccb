"""Penalties, bias and cuts equal transformers' own logits processors, row by row in a mixed batch."""

from __future__ import annotations

import random

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from serving.application.ports import Draw
from serving.domain.request import SamplingParams
from serving.infrastructure import sampler as module
from serving.infrastructure.penalties import adjust
from serving.infrastructure.sampler import VectorSampler

VOCAB = 50
PROMPT = 6
POSITIONS = 3000


def random_params(rng: random.Random) -> SamplingParams:
    """Every feature on or off by itself."""

    def maybe(value, default):
        return value if rng.random() < 0.5 else default

    return SamplingParams(
        temperature=rng.choice((0.7, 1.0, 1.6)),
        top_k=maybe(rng.randint(1, 30), 0),
        top_p=maybe(rng.uniform(0.3, 0.99), 1.0),
        min_p=maybe(rng.uniform(0.01, 0.3), 0.0),
        repetition_penalty=maybe(rng.uniform(0.7, 1.8), 1.0),
        logit_bias=maybe({rng.randrange(VOCAB): rng.uniform(-5, 5) for _ in range(3)}, {}),
        min_tokens=maybe(9, 0),
        stop_token_ids=frozenset({1, 2}),
    )


def processed(logits: torch.Tensor, params: SamplingParams, tokens: list[int]) -> torch.Tensor:
    """[vocab] by transformers' processors, in the order of `generate`, bias and length first."""
    steps = LogitsProcessorList()
    if params.min_tokens:
        steps.append(MinNewTokensLengthLogitsProcessor(PROMPT, params.min_tokens, sorted(params.stop_token_ids)))
    if params.logit_bias:
        steps.append(SequenceBiasLogitsProcessor([[[token], bias] for token, bias in params.logit_bias.items()]))
    if params.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(params.repetition_penalty))
    steps.append(TemperatureLogitsWarper(params.temperature))
    if params.top_k:
        steps.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        steps.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        steps.append(MinPLogitsWarper(params.min_p))
    return steps(torch.tensor([tokens]), logits[None].clone())[0]


@pytest.mark.parametrize("seed", range(12))
def test_the_tokens_that_can_be_drawn_and_their_shares_are_transformers(seed, monkeypatch):
    """Uniform numbers on a fine grid instead of random ones turn frequencies into probabilities."""
    rng = random.Random(seed)
    tokens = [rng.randrange(VOCAB) for _ in range(PROMPT + 4)]
    params = random_params(rng)
    logits = 2 * torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))
    monkeypatch.setattr(module, "uniforms", lambda draws: (torch.arange(len(draws)) + 0.5) / len(draws))
    monkeypatch.setattr(module, "CANDIDATES", (4, 16))
    draws = [Draw(params, 0, len(tokens) - PROMPT, tokens)] * POSITIONS
    drawn = torch.tensor(VectorSampler().sample(logits.expand(POSITIONS, -1), draws))
    shares = torch.bincount(drawn, minlength=VOCAB) / POSITIONS
    torch.testing.assert_close(shares, processed(logits, params, tokens).softmax(0), atol=1.1 / POSITIONS, rtol=0)


def test_presence_and_frequency_count_the_answer_only():
    logits = torch.zeros(1, 6)
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    adjusted = adjust(logits, [Draw(params, 0, 4, [0, 0, 1, 5, 5, 5, 2])])
    assert adjusted.tolist() == [[0, 0, -0.75, 0, 0, -1.25]]
    assert adjust(logits, [Draw(params, 0, 0, [0, 1])]).tolist() == logits.tolist()


def test_rows_do_not_touch_each_other_and_nobody_asking_costs_nothing():
    rng = random.Random(5)
    logits = torch.randn(8, VOCAB, generator=torch.Generator().manual_seed(5))
    history = [[rng.randrange(VOCAB) for _ in range(rng.randint(5, 20))] for _ in range(8)]
    draws = [Draw(random_params(rng), row, 3, tokens) for row, tokens in enumerate(history)]
    draws[3] = Draw(SamplingParams(presence_penalty=1.0), 3, 3, history[3])
    together = adjust(logits, draws)
    for row, draw in enumerate(draws):
        assert torch.equal(together[row], adjust(logits[row : row + 1], [draw])[0])
    plain = [Draw(SamplingParams(top_k=3), 0, 3, tokens) for tokens in history]
    assert adjust(logits, plain) is logits


def test_tokens_that_the_model_does_not_have_are_ignored():
    params = SamplingParams(stop_token_ids=frozenset({99}), min_tokens=5, logit_bias={77: 3.0})
    logits = torch.zeros(2, VOCAB)
    assert torch.equal(adjust(logits, [Draw(params, 0, 0), Draw(SamplingParams(), 0, 0)]), logits)


def test_logprobs_are_of_the_raw_logits_whatever_the_penalties():
    logits = torch.tensor([[3.0, 1.0, 0.0]])
    params = SamplingParams(temperature=0.0, logit_bias={2: 50.0}, logprobs=1)
    (entry,) = VectorSampler().sample(logits, [Draw(params, 0, 0)])
    assert entry.token == 2 and entry.logprob == pytest.approx(logits.log_softmax(-1)[0, 2].item())
    assert entry.top[0][0] == 0
