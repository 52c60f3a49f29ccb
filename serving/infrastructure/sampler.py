"""Next tokens for a whole batch in a handful of tensor operations, each row with its own settings.

Randomness is a function, not a stream: the uniform number of a row is a hash of (request seed, position). So a seeded answer
does not depend on who else is in the batch, on preemption, or on a step that had to be run twice; and there is no
generator to keep per request.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from serving.application.ports import Chosen, Draw
from serving.domain.events import TokenLogprob
from serving.domain.request import SamplingParams
from serving.infrastructure.penalties import adjust

CANDIDATES = (64, 2048)
"""How many of the likeliest tokens to look at before sorting the whole vocabulary, which costs up to 60 times as much as 64."""

SCORED_AT_ONCE = 64
"""Prompt tokens whose log-probabilities are in memory at a time, over the whole vocabulary."""


class VectorSampler:
    """Penalties, then temperature, top-k, top-p and min-p, in transformers' order; log-probabilities are of the raw logits.

    Penalties and bias come first and in vLLM's order: see `penalties.adjust`.
    """

    def sample(self, logits: Tensor | Chosen, draws: Sequence[Draw]) -> list[TokenLogprob | int]:
        """logits [n, vocab], one draw per row. Raises FloatingPointError when a row has no finite maximum."""
        if isinstance(logits, Chosen):
            return self._complete(logits, draws)
        raw = logits.float()
        allowed = adjust(raw, draws)
        greedy = [draw.sampling.is_greedy for draw in draws]
        if all(greedy):
            best, tokens = _likeliest(allowed)
        else:
            best, tokens = _likeliest(allowed) if any(greedy) else (allowed.amax(-1), None)
            rows = [row for row, is_greedy in enumerate(greedy) if not is_greedy]
            chosen = self._draw(allowed if tokens is None else allowed[rows], [draws[row] for row in rows])
            tokens = chosen if tokens is None else tokens.index_copy(0, torch.tensor(rows, device=raw.device), chosen)
        if not torch.isfinite(best).all():
            raise FloatingPointError("the model's logits are not finite")
        return _with_logprobs(raw, tokens.tolist(), draws)

    def _complete(self, chosen: Chosen, draws: Sequence[Draw]) -> list[TokenLogprob | int]:
        """What the backend chose, and a draw for every other row."""
        _require_finite(chosen)
        tokens: list[TokenLogprob | int | None] = list(chosen.tokens)
        if rows := [row for row, token in enumerate(tokens) if token is None]:
            for row, token in zip(rows, self.sample(chosen.logits[rows], [draws[row] for row in rows]), strict=True):
                tokens[row] = token
        return tokens

    def score(
        self, logits: Tensor | Chosen, known: Mapping[int, tuple[int, int]], drawn: Sequence[int]
    ) -> tuple[list[TokenLogprob], Tensor | Chosen]:
        """Log-probabilities of `known` (row: token, how many others), and the `drawn` rows.

        Raises FloatingPointError when a row has no finite maximum.
        """
        if isinstance(logits, Chosen):  # what is to be scored is not plain, so its logits are there
            scores, left = self.score(logits.logits, known, drawn)
            return scores, Chosen([logits.tokens[row] for row in drawn], [logits.scores[row] for row in drawn], left)
        scores: list[TokenLogprob] = []
        places = list(known.items())
        for at in range(0, len(places), SCORED_AT_ONCE):
            rows, wanted = zip(*places[at : at + SCORED_AT_ONCE], strict=True)
            logprobs = logits[list(rows)].float().log_softmax(-1)
            if not torch.isfinite(logprobs.amax(-1)).all():
                raise FloatingPointError("the model's logits are not finite")
            scores += _scores(logprobs, [token for token, _ in wanted], [count for _, count in wanted])
        return scores, logits[list(drawn)]

    def _draw(self, logits: Tensor, draws: Sequence[Draw]) -> Tensor:
        """One token per row by inverting the cumulative distribution."""
        temperature = torch.tensor([draw.sampling.temperature for draw in draws], dtype=torch.float32, device=logits.device)
        logits = logits / temperature[:, None]
        uniform = uniforms(draws).to(logits.device)
        cut = [_cuts(draw.sampling) for draw in draws]
        if not any(cut):
            return _invert(logits.softmax(-1), uniform)
        if all(cut):
            return self._draw_cut(logits, draws, uniform)
        tokens = torch.empty(len(draws), dtype=torch.long, device=logits.device)
        for kind in (True, False):
            rows = [row for row, is_cut in enumerate(cut) if is_cut is kind]
            where = torch.tensor(rows, device=logits.device)
            part, seeds = logits[where], uniform[where]
            tokens[where] = (
                self._draw_cut(part, [draws[row] for row in rows], seeds) if kind else _invert(part.softmax(-1), seeds)
            )
        return tokens

    def _draw_cut(self, logits: Tensor, draws: Sequence[Draw], uniform: Tensor) -> Tensor:
        """Top-k, top-p and min-p among the likeliest few; rows for which few are not enough try again with more.

        How many a row tries depends on that row alone: equal logits, common in bfloat16, are ordered differently by
        searches of different width, and a seeded answer must not depend on its batch mates.
        """
        vocab = logits.shape[1]
        probabilities = logits.softmax(-1)
        tokens = torch.zeros(len(draws), dtype=torch.long, device=logits.device)
        pending = list(range(len(draws)))
        for width in (*(width for width in CANDIDATES if width < vocab), vocab):
            rows = [row for row in pending if min(draws[row].sampling.top_k, vocab) <= width]
            if not rows:
                continue
            where = torch.tensor(rows, device=logits.device)
            part = probabilities if len(rows) == len(draws) else probabilities[where]
            chosen, enough = _among_likeliest(part, [draws[row].sampling for row in rows], uniform[where], width)
            tokens[where] = chosen  # of no account where it was not enough: chosen again
            done = {row for row, is_enough in zip(rows, enough.tolist(), strict=True) if is_enough}
            pending = [row for row in pending if row not in done]
            if not pending:
                break
        return tokens


class RolloutSampler(VectorSampler):
    """For rollouts, whose draws all have the same settings, a temperature and no cuts: each token and its log-probability.

    Log-probabilities are at the temperature of sampling: the very probabilities that the tokens were drawn from. A backend
    that draws may do so, as it does for all of them. Greedy rollouts are a `VectorSampler`'s.
    """

    def sample(self, logits: Tensor | Chosen, draws: Sequence[Draw]) -> list[TokenLogprob | int]:
        """As `VectorSampler.sample`, for draws with the `sampling` of the first."""
        if draws[0].sampling.is_greedy:
            return super().sample(logits, draws)
        if isinstance(logits, Chosen):
            _require_finite(logits)
            return list(map(TokenLogprob, logits.tokens, logits.scores))
        probabilities = (logits.float() / draws[0].sampling.temperature).softmax(-1)
        tokens = _invert(probabilities, uniforms(draws).to(logits.device))
        logprobs = probabilities.gather(1, tokens[:, None])[:, 0].log()
        if not torch.isfinite(logprobs).all():
            raise FloatingPointError("the model's logits are not finite")
        return list(map(TokenLogprob, tokens.tolist(), logprobs.tolist()))


def _require_finite(chosen: Chosen) -> None:
    if not all(map(math.isfinite, chosen.scores)):
        raise FloatingPointError("the model's logits are not finite")


def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's maximum and where it is, the first of equals. NumPy's search is many times as fast on a CPU."""
    if logits.device.type != "cpu":
        return logits.max(-1)
    tokens = torch.from_numpy(logits.numpy().argmax(-1))
    return logits.gather(1, tokens[:, None])[:, 0], tokens


def _among_likeliest(
    probabilities: Tensor, params: Sequence[SamplingParams], uniform: Tensor, width: int
) -> tuple[Tensor, Tensor]:
    """One token per row out of its `width` likeliest, and whether that many were enough to know."""
    device, vocab = probabilities.device, probabilities.shape[1]
    top_k = torch.tensor([p.top_k if p.top_k > 0 else vocab for p in params], device=device)[:, None]
    top_p = torch.tensor([p.top_p for p in params], dtype=torch.float32, device=device)[:, None]
    values, candidates = probabilities.topk(width, -1)
    min_p = torch.tensor([p.min_p for p in params], dtype=torch.float32, device=device)[:, None]
    likely = values >= min_p * values[:, :1]
    values = values * (torch.arange(width, device=device) < top_k)
    bounded = top_k <= width
    values = torch.where(bounded, values / values.sum(-1, keepdim=True), values)  # top-p counts what top-k left over
    cumulative = values.cumsum(-1)
    enough = bounded | (cumulative[:, -1:] >= top_p) | ~likely[:, -1:] | (width == vocab)
    # A token stays while those before it have not reached top_p: the smallest set that does, never an empty one.
    kept = (likely & (cumulative - values < top_p)).index_fill(1, torch.tensor([0], device=device), True)
    rank = _invert(values * kept, uniform)
    return candidates.gather(1, rank[:, None])[:, 0], enough[:, 0]


def uniforms(draws: Sequence[Draw]) -> Tensor:
    """[n] float32 in [0, 1 - 2^-24], hashed from (seed, position) with two rounds of splitmix64's finalizer."""
    seeds = np.array([draw.seed % 2**64 for draw in draws], dtype=np.uint64)
    positions = np.array([draw.position for draw in draws], dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = _mix(_mix(seeds) + positions * np.uint64(0x9E3779B97F4A7C15))
    return torch.from_numpy(((bits >> np.uint64(40)) * 2.0**-24).astype(np.float32))


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _cuts(params: SamplingParams) -> bool:
    return params.top_k > 0 or params.top_p < 1 or params.min_p > 0


def _invert(weights: Tensor, uniform: Tensor) -> Tensor:
    """The first index whose cumulative weight exceeds uniform * total, so that a weight of zero is never chosen."""
    cumulative = weights.cumsum(-1)
    threshold = uniform[:, None] * cumulative[:, -1:]
    index = torch.searchsorted(cumulative, threshold, right=True)[:, 0]
    return index.clamp(max=weights.shape[1] - 1)


def _with_logprobs(raw: Tensor, tokens: list[int], draws: Sequence[Draw]) -> list[TokenLogprob | int]:
    result: list[TokenLogprob | int] = list(tokens)
    rows = [row for row, draw in enumerate(draws) if draw.sampling.logprobs is not None]
    if not rows:
        return result
    counts = [draws[row].sampling.logprobs for row in rows]
    scores = _scores(raw[rows].log_softmax(-1), [tokens[row] for row in rows], counts)
    for row, score in zip(rows, scores, strict=True):
        result[row] = score
    return result


def _scores(logprobs: Tensor, tokens: list[int], counts: list[int]) -> list[TokenLogprob]:
    """logprobs [n, vocab]; one of `tokens` and one of `counts` per row."""
    widest = min(logprobs.shape[1], max(counts))
    values, candidates = (part.tolist() for part in logprobs.topk(widest, -1)) if widest else ([[]] * len(tokens),) * 2
    own = logprobs.gather(1, torch.tensor([[token] for token in tokens], device=logprobs.device))[:, 0].tolist()
    return [
        TokenLogprob(token, own[row], tuple(zip(candidates[row][:count], values[row][:count], strict=True)))
        for row, (token, count) in enumerate(zip(tokens, counts, strict=True))
    ]
