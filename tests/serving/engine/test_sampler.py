"""VectorSampler: the right distribution, the right sets, and each row by itself."""

from __future__ import annotations

import math

import pytest
import torch

from serving.application.ports import Draw
from serving.domain.events import TokenLogprob
from serving.domain.request import SamplingParams
from serving.infrastructure import sampler as module
from serving.infrastructure.sampler import RolloutSampler, VectorSampler, uniforms

LOGITS = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0, -torch.inf])


def sample(logits, draws):
    return VectorSampler().sample(logits, draws)


def many(count=4000, logits=LOGITS, **params):
    """How often each token is chosen in `count` draws at different positions."""
    draws = [Draw(SamplingParams(**params), seed=7, position=position) for position in range(count)]
    return torch.bincount(torch.tensor(sample(logits.expand(count, -1), draws)), minlength=len(logits))


def chi_square(counts, probabilities):
    expected = probabilities * counts.sum()
    possible = expected > 0
    assert counts[~possible].sum() == 0
    return ((counts - expected)[possible] ** 2 / expected[possible]).sum().item()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_are_those_of_the_softmax(temperature):
    counts = many(temperature=temperature)
    assert chi_square(counts, (LOGITS / temperature).softmax(0)) < 25  # 5 degrees of freedom: one in ten thousand


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 1}, {0}),
        ({"top_k": 3}, {0, 1, 2}),
        ({"top_k": 99}, {0, 1, 2, 3, 4, 5}),
        ({"top_p": 1e-6}, {0}),
        ({"top_p": 0.5}, {0}),  # probabilities are .56 .21 .12 .08 .03 .004
        ({"top_p": 0.6}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2, 3}),
        ({"top_k": -1, "top_p": 0.6}, {0, 1}),  # as generation_config.json may have it: all
        ({"top_k": 2, "top_p": 0.7}, {0}),  # of two tokens the first has .73
        ({"top_k": 2, "top_p": 0.75}, {0, 1}),
    ],
)
def test_top_k_and_top_p_keep_exactly_these_tokens(params, kept):
    counts = many(**params)
    assert set(counts.nonzero()[:, 0].tolist()) == kept
    probabilities = LOGITS.softmax(0) * torch.tensor([token in kept for token in range(7)])
    assert chi_square(counts, probabilities / probabilities.sum()) < 25


@pytest.mark.parametrize("candidates", [(4,), (4, 8, 16), (4, 30), (50,)])
def test_a_flat_distribution_needs_more_than_the_first_candidates(monkeypatch, candidates):
    monkeypatch.setattr(module, "CANDIDATES", candidates)
    assert len(many(logits=torch.zeros(50), top_p=0.49).nonzero()) == 25
    assert len(many(logits=torch.zeros(50), top_k=20).nonzero()) == 20


def test_equal_logits_are_drawn_alike_whatever_the_batch_mates_ask_for():
    logits = torch.zeros(1, 1000).index_fill(1, torch.arange(0, 1000, 3), 5.0)
    for params in ({"top_k": 40}, {"top_k": 40, "top_p": 0.7}, {"top_p": 0.01}):
        one = Draw(SamplingParams(**params), seed=3, position=1)
        mates = [Draw(SamplingParams(**mate), 0, 0) for mate in ({"top_k": 700}, {"top_p": 0.999}, {"top_k": 1}, {})]
        assert sample(logits.expand(5, -1), [one, *mates])[0] == sample(logits, [one])[0]


def test_each_row_follows_its_own_parameters():
    kinds = [
        {"temperature": 0.0},
        {"top_k": 2},
        {"top_p": 0.6},
        {"temperature": 2.0},
        {"top_k": 3, "top_p": 0.8, "logprobs": 1},
        {"temperature": 1e-9},
    ]
    logits = torch.randn(len(kinds), 40, generator=torch.Generator().manual_seed(3))
    draws = [Draw(SamplingParams(**kind), seed=row, position=5) for row, kind in enumerate(kinds)]
    alone = [sample(logits[row : row + 1], draws[row : row + 1])[0] for row in range(len(kinds))]
    together = sample(logits, draws)
    backwards = sample(logits.flip(0), draws[::-1])[::-1]
    tokens = [[t.token if isinstance(t, TokenLogprob) else t for t in run] for run in (alone, together, backwards)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert tokens[0][0] == logits[0].argmax() and tokens[0][5] == logits[5].argmax()


def test_uniform_numbers_are_uniform_and_differ_between_seeds_and_positions():
    draws = [Draw(SamplingParams(), seed, position) for seed in range(100) for position in range(100)]
    numbers = uniforms(draws)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = torch.histc(numbers, 20, 0, 1)
    assert ((counts - 500) ** 2 / 500).sum() < 60  # 19 degrees of freedom
    grid = numbers.view(100, 100)
    for one, other in ((grid[1:], grid[:-1]), (grid[:, 1:], grid[:, :-1]), (grid[1:, :-1], grid[:-1, 1:])):
        neighbours = torch.stack((one.flatten(), other.flatten()))
        assert abs(torch.corrcoef(neighbours)[0, 1]) < 0.05
    assert uniforms([Draw(SamplingParams(), -1, 0), Draw(SamplingParams(), 2**70, 3)]).shape == (2,)


def test_impossible_tokens_are_never_drawn_even_at_the_ends_of_the_unit_interval(monkeypatch):
    logits = torch.tensor([-torch.inf, 0.0, 0.0, -torch.inf]).repeat(2, 1)
    monkeypatch.setattr(module, "uniforms", lambda draws: torch.tensor([0.0, 1 - 2.0**-24]))
    for params in ({}, {"top_p": 0.99}, {"top_k": 4}):
        assert set(sample(logits, [Draw(SamplingParams(**params), 0, 0)] * 2)) <= {1, 2}


def test_stop_tokens_wait_for_min_tokens():
    params = SamplingParams(temperature=0.0, min_tokens=3, stop_token_ids=frozenset({0}))
    assert sample(LOGITS.expand(2, -1), [Draw(params, 0, 2), Draw(params, 0, 3)]) == [1, 0]


def test_logprobs_are_of_the_raw_logits_whatever_the_temperature():
    params = SamplingParams(temperature=0.3, top_k=1, logprobs=2)
    (entry, bare) = sample(LOGITS.expand(2, -1), [Draw(params, 0, 0), Draw(SamplingParams(temperature=0.0), 0, 0)])
    expected = LOGITS.log_softmax(0)
    assert bare == 0 and entry.token == 0 and math.isclose(entry.logprob, expected[0], rel_tol=1e-5)
    assert [token for token, _ in entry.top] == [0, 1]
    (chosen_only,) = sample(LOGITS[None], [Draw(SamplingParams(logprobs=0), 0, 0)])
    assert chosen_only.top == ()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(temperature):
    with pytest.raises(FloatingPointError):
        sample(torch.full((1, 5), torch.nan), [Draw(SamplingParams(temperature=temperature), 0, 0)])


def test_rollouts_draw_the_same_tokens_and_say_how_likely_they_were():
    logits = torch.randn(300, 50, generator=torch.Generator().manual_seed(1))
    draws = [Draw(SamplingParams(temperature=0.7, logprobs=0), seed=row, position=row % 5) for row in range(300)]
    told = RolloutSampler().sample(logits, draws)
    assert [one.token for one in told] == [one.token for one in sample(logits, draws)]
    expected = (logits / 0.7).log_softmax(-1)
    assert [one.logprob for one in told] == pytest.approx([expected[row, one.token].item() for row, one in enumerate(told)], abs=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_rollouts_of_logits_that_are_no_numbers_are_an_error(value):
    with pytest.raises(FloatingPointError):
        RolloutSampler().sample(torch.full((1, 4), value), [Draw(SamplingParams(temperature=0.7, logprobs=0), 0, 0)])
