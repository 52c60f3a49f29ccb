"""What the kernels draw is what softmax says, by the very random numbers of the sampler, with its log-probability."""

from __future__ import annotations

import math

import pytest
import torch

from serving.application.ports import Chosen, Draw, Plain, SequenceSlice
from serving.domain.request import SamplingParams
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.native.library import levels_here
from serving.infrastructure.sampler import RolloutSampler, VectorSampler

from .models import CONFIGS, VOCAB, build

ROWS = 16


def backend_and_tokens(level=None, threads=2, vocab=VOCAB):
    config = CONFIGS["llama"]()
    config.vocab_size = vocab
    model = build(config)
    backend = NativeBackend(model.config, model.state_dict(), num_blocks=16, level=level, threads=threads)
    return backend, torch.randint(vocab, (ROWS,), generator=torch.Generator().manual_seed(1)).tolist()


def decodes(tokens, plain):
    """One-token sequences, each in a block of its own."""
    return [SequenceSlice(str(at), [token], 0, [at], 1, plain(at)) for at, token in enumerate(tokens)]


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("vocab", [VOCAB, VOCAB - 5])
def test_draws_are_those_of_the_sampler(level, temperature, vocab):
    backend, tokens = backend_and_tokens(level, vocab=vocab)
    sampling, same = SamplingParams(temperature=temperature), 0
    logits = backend.execute(decodes(tokens, lambda at: None))
    for position in range(40):
        drawn = backend.execute(decodes(tokens, lambda at, position=position: Plain(temperature, 2**40 + at, position)))
        draws = [Draw(sampling, 2**40 + at, position) for at in range(ROWS)]
        expected = RolloutSampler().sample(logits, draws)
        assert isinstance(drawn, Chosen) and max(drawn.tokens) < vocab
        same += sum(one.token == token for one, token in zip(expected, drawn.tokens, strict=True))
        logprobs = (logits / temperature).log_softmax(-1).gather(1, torch.tensor(drawn.tokens)[:, None])[:, 0]
        assert drawn.scores == pytest.approx(logprobs.tolist(), abs=1e-4)
    assert same >= ROWS * 40 - 2, "another order of additions may move a token that lies right on a border"


def test_likeliest_and_drawn_tokens_share_a_step_and_threads_change_nothing():
    found = []
    for threads in (1, 2):
        backend, tokens = backend_and_tokens(threads=threads)
        found.append(backend.execute(decodes(tokens, lambda at: Plain(at % 2 * 0.9, at, 3))))
        logits = backend.execute(decodes(tokens, lambda at: None))
        assert found[-1].tokens[::2] == logits.argmax(-1)[::2].tolist()
        assert found[-1].scores[::2] == logits.amax(-1)[::2].tolist()
    assert found[0] == found[1]


def test_who_is_drawn_is_drawn_so_in_any_company():
    """Beside a row with top-p, one whose likelihood is asked for, and one that only reads: the same token as alone."""
    backend, tokens = backend_and_tokens()
    alone = backend.execute(decodes(tokens, lambda at: Plain(1.0, at, 3)))
    mixed = backend.execute(decodes(tokens, lambda at: (Plain(1.0, at, 3), None, Plain())[at % 3]))
    assert mixed.tokens[::3] == alone.tokens[::3] and mixed.scores[::3] == alone.scores[::3]
    assert [token is None for token in mixed.tokens] == [at % 3 != 0 for at in range(ROWS)]
    kinds = (SamplingParams(), SamplingParams(top_p=0.8), SamplingParams(temperature=0))
    draws = [Draw(kinds[at % 3], at, 3) for at in range(ROWS)]
    logits = backend.execute(decodes(tokens, lambda at: None))
    drawn, expected = VectorSampler().sample(mixed, draws), VectorSampler().sample(logits, draws)
    assert drawn[::3] == alone.tokens[::3]
    assert drawn[1::3] == expected[1::3] and drawn[2::3] == expected[2::3]
    scores, left = VectorSampler().score(mixed, {1: (5, 0)}, [0, 2])
    assert scores[0].logprob == pytest.approx(logits[1].log_softmax(-1)[5].item())
    assert VectorSampler().sample(left, [draws[0], draws[2]]) == [drawn[0], drawn[2]]


def test_guesses_are_drawn_one_position_after_the_other():
    backend, tokens = backend_and_tokens()
    together = backend.execute([SequenceSlice("a", tokens[:4], 0, [0], 4, Plain(1.0, 7, 10))])
    for row in range(4):
        single = backend.execute([SequenceSlice("a", tokens[: row + 1], 0, [0], 1, Plain(1.0, 7, 10 + row))])
        assert (single.tokens[0], single.scores[0]) == (together.tokens[row], together.scores[row])


def test_tokens_drawn_ahead_are_those_of_single_steps():
    backend, tokens = backend_and_tokens()
    tokens = tokens[:3]
    single, scores, last = [[] for _ in tokens], [[] for _ in tokens], tokens
    for position in range(20):
        step = [SequenceSlice(str(at), [last[at]], position, [at], 1, Plain(1.0, at, position)) for at in range(3)]
        chosen = backend.execute(step)
        last = chosen.tokens
        for at in range(3):
            single[at].append(chosen.tokens[at])
            scores[at].append(chosen.scores[at])
    ahead = backend.execute([SequenceSlice(str(at), [tokens[at]], 0, [at], 1, Plain(1.0, at, 0), 19) for at in range(3)])
    assert ahead == Chosen(sum(single, []), sum(scores, []))


def test_logits_that_are_no_numbers_are_an_error():
    config = CONFIGS["llama"]()
    model = build(config)
    with torch.no_grad():
        model.lm_head.weight.fill_(1e38)
    backend = NativeBackend(model.config, model.state_dict(), num_blocks=16)
    chosen = backend.execute([SequenceSlice("a", [1], 0, [0], 1, Plain(1.0))])
    assert not all(map(math.isfinite, chosen.scores))
    with pytest.raises(FloatingPointError):
        RolloutSampler().sample(chosen, [Draw(SamplingParams(), 0, 0)])
