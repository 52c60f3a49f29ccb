"""A rounded head decides which outputs are worth computing, and never which one is the likeliest."""

from __future__ import annotations

import pytest
import torch

from serving.application.ports import Plain, SequenceSlice
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.native.library import levels_here

from .models import CONFIGS, VOCAB, build

HEADS = ("outliers", "equals", "nearly equal", "all alike", "zeros", "all below zero")


def change(head: torch.Tensor, how: str) -> None:
    """Heads that rounding treats badly: [vocabulary, hidden], in place, in numbers that bfloat16 holds."""
    generator = torch.Generator().manual_seed(3)
    if how == "outliers":
        head[:, 5] *= 64
        head[::7] *= 1 / 64
    elif how == "equals":
        head[60:] = head[:41]
    elif how == "nearly equal":
        head.copy_(head[:1] + torch.randn(head.shape, generator=generator) * 1e-3)
    elif how == "all alike":
        head.copy_(head[:1].expand_as(head).clone())
    elif how == "zeros":
        head.zero_()
    elif how == "all below zero":
        head.copy_(-head.abs())
    head.copy_(head.bfloat16())


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("how", HEADS)
@torch.no_grad()
def test_the_likeliest_is_that_of_all_logits(how, level):
    model = build(CONFIGS["llama"]())
    change(model.lm_head.weight, how)
    backend = NativeBackend(model.config, model.state_dict(), num_blocks=16, level=level, threads=2)
    generator = torch.Generator().manual_seed(1)
    for rows in (1, 5, 40):
        tokens = torch.randint(VOCAB, (rows,), generator=generator).tolist()
        prompt = SequenceSlice("a", tokens, 0, [3, 5], rows)
        logits = backend.execute([prompt])
        found = backend.execute([SequenceSlice("a", tokens, 0, [3, 5], rows, plain=Plain())])
        best = logits.max(-1).values
        first = [(row == top).nonzero()[0].item() for row, top in zip(logits, best, strict=True)]
        assert found.tokens == first
        assert found.scores == best.tolist()
