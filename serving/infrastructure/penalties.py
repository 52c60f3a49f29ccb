"""What changes logits before anything is drawn: stop tokens that come too early, bias, penalties, and grammars.

Everything here touches single logits, listed row by row, and only of rows that ask for it; nothing has the size of the
batch times the vocabulary but the copy that is returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from serving.application.ports import Draw


class Change(NamedTuple):
    """Distinct tokens of one row, and one amount for each or for all."""

    row: int
    tokens: Sequence[int] | np.ndarray
    amounts: Any


def adjust(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    """logits [n, vocab] float32 as temperature and cuts take them up; the input itself when nobody asks for a change.

    In vLLM's order: stop tokens before `min_tokens` become impossible; `logit_bias` is added; the repetition penalty
    divides positive logits of tokens in prompt or answer and multiplies negative ones (as in transformers); frequency and
    presence penalty are subtracted for tokens in the answer (as in OpenAI's API). Last, what a grammar forbids becomes
    impossible, whatever its bias.
    """
    adjusted = _add(logits, [*_early_stops(draws), *_bias(draws)])
    adjusted = _penalise(adjusted, list(_repetition(draws)))
    return _forbid(_add(adjusted, list(_frequency(draws))), draws)


def _early_stops(draws: Sequence[Draw]) -> Iterator[Change]:
    for row, draw in enumerate(draws):
        # A grammar has looked after them already: they stay possible where it must end.
        if draw.position < draw.sampling.min_tokens and draw.sampling.stop_token_ids and draw.allowed is None:
            yield Change(row, list(draw.sampling.stop_token_ids), -np.inf)


def _bias(draws: Sequence[Draw]) -> Iterator[Change]:
    for row, draw in enumerate(draws):
        if bias := draw.sampling.logit_bias:
            yield Change(row, list(bias), list(bias.values()))


def _repetition(draws: Sequence[Draw]) -> Iterator[Change]:
    for row, draw in enumerate(draws):
        if draw.sampling.repetition_penalty != 1 and draw.tokens:
            yield Change(row, np.unique(np.asarray(draw.tokens)), draw.sampling.repetition_penalty)


def _frequency(draws: Sequence[Draw]) -> Iterator[Change]:
    for row, draw in enumerate(draws):
        presence, frequency = draw.sampling.presence_penalty, draw.sampling.frequency_penalty
        if draw.position and (presence or frequency):
            tokens, counts = np.unique(np.asarray(draw.tokens[-draw.position :]), return_counts=True)
            yield Change(row, tokens, -presence - frequency * counts)


def _forbid(logits: Tensor, draws: Sequence[Draw]) -> Tensor:
    rows = [row for row, draw in enumerate(draws) if draw.allowed is not None]
    if not rows:
        return logits
    most = -(-logits.shape[1] // 8)  # bytes; cut here, the rows of `bias` need no cutting, which NumPy would copy
    masks = torch.frombuffer(bytearray().join(draws[row].allowed[:most] for row in rows), dtype=torch.uint8)
    # One look-up per byte: several times as fast as unpacking bits and filling in where they are not set.
    bias = _bias_of_bytes(logits.device).index_select(0, masks.to(logits.device).int()).view(len(rows), -1)
    short = logits.shape[1] - bias.shape[1]
    if short > 0:  # logits beyond the tokenizer's vocabulary
        bias = torch.nn.functional.pad(bias, (0, short), value=-np.inf)
    bias = bias[:, : logits.shape[1]]
    if len(rows) == len(draws):
        return bias.add_(logits)
    where = torch.tensor(rows, device=logits.device)
    return logits.index_copy(0, where, bias.add_(logits[where]))


@cache
def _bias_of_bytes(device: torch.device) -> Tensor:
    """[256, 8]: for each byte and each of its bits, lowest first, 0 where it is set, else -inf."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return torch.from_numpy(np.where(bits, 0.0, -np.inf).astype(np.float32)).to(device)


def _add(logits: Tensor, changes: Sequence[Change]) -> Tensor:
    if not changes:
        return logits
    where, amounts = _entries(logits, changes)
    return logits.index_put(where, amounts, accumulate=True)  # a stop token may have a bias, too


def _penalise(logits: Tensor, changes: Sequence[Change]) -> Tensor:
    if not changes:
        return logits
    where, amounts = _entries(logits, changes)
    old = logits[where]
    return logits.index_put(where, torch.where(old < 0, old * amounts, old / amounts))


def _entries(logits: Tensor, changes: Sequence[Change]) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """(rows, tokens) to index with, and an amount for each. Tokens that the model does not have are left out."""
    rows, tokens, amounts = [], [], []
    for change in changes:
        ids = np.asarray(change.tokens, dtype=np.int64)
        known = (ids >= 0) & (ids < logits.shape[1])
        tokens.append(ids[known])
        rows.append(np.full(len(tokens[-1]), change.row))
        amounts.append(np.broadcast_to(np.asarray(change.amounts, dtype=np.float32), ids.shape)[known])
    where, which, by = (torch.from_numpy(np.concatenate(part)).to(logits.device) for part in (rows, tokens, amounts))
    return (where, which), by
