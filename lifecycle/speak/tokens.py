"""A language model that can read and write what a codec says: one token a code, after all tokens that it knows already."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import AddedToken, PreTrainedTokenizerBase

from lifecycle.model.decoder import Decoder
from lifecycle.model.widening import tables, widened

BEGIN = "<|audio|>"
"""Comes before codes; every tokenizer of ours has it."""
SMALLER = 0.5
"""How large a code's row is at first, beside a word's."""


def code_token(code: int) -> str:
    """How a code is written."""
    return f"<|audio_{code}|>"


def add_codes(tokenizer: PreTrainedTokenizerBase, count: int) -> int:
    """Teach a tokenizer the tokens of codes 0 to `count` - 1, in place; the id of the first. Decoding text leaves them out."""
    first = len(tokenizer)
    tokenizer.add_tokens([AddedToken(code_token(code), normalized=False, special=True) for code in range(count)])
    assert tokenizer.convert_tokens_to_ids(code_token(count - 1)) == first + count - 1
    return first


@torch.no_grad()
def extended(decoder: Decoder, first: int, patterns: Tensor, seed: int) -> Decoder:
    """The same model with a row for each code, from id `first` on.

    patterns: [codes, size], what codes sound like. Codes that sound alike begin with rows that are alike: their patterns'
    principal components, smaller than a word's row.
    """
    wider = widened(decoder, first + len(patterns))
    generator = torch.Generator().manual_seed(seed)
    for old, table in zip(tables(decoder), tables(wider), strict=True):
        size = SMALLER * old.std().item()
        table[len(old) :].normal_(0.0, size, generator=generator)
        table[first : first + len(patterns)] = size * components(patterns, table.shape[1], generator)
    return wider


def components(patterns: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """[codes, size] to [codes, count] whose mean square is 1: as many principal components as there are, turned at random."""
    centred = patterns - patterns.mean(0)
    left, strengths, _ = torch.linalg.svd(centred, full_matrices=False)
    found = (left * strengths)[:, :count]
    turned = found @ torch.randn(found.shape[1], count, generator=generator)
    return turned / turned.square().mean().sqrt()
