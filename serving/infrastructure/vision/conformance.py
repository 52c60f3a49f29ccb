"""Does a packed step show a model what the model sees alone? Asked once, with one picture, before it serves anyone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from serving.application.ports import SequenceSlice
from serving.domain.request import Prompt
from serving.infrastructure.causal_lm import CausalLM
from serving.infrastructure.conformance import CHECKED, LENGTHS, TOLERANCE
from serving.infrastructure.vision.embeddings import together

ANSWER = 2
"""Tokens that follow the prompt."""


def picture_disagreement(
    lm: CausalLM, execute: Callable[[Sequence[SequenceSlice]], Tensor], block_size: int, example: Prompt
) -> float:
    """Largest difference to the eager logits of each sequence alone, in units of what its dtype forgives: above 1 is wrong.

    The first chunk ends inside the picture, the rest is computed beside a text, and two decodes follow the prompt.
    """
    seeing = [*example.tokens, *(3 + 5 * i for i in range(ANSWER))]
    text = [(7 + 11 * i) % lm.vocab_size for i in range(LENGTHS[1])]
    alone = [lm.reference(seeing, **shown(lm, example, len(seeing))).float(), lm.reference(text).float()]
    width = -(-len(seeing) // block_size)
    tables = [list(range(width)), list(range(width, width + -(-len(text) // block_size)))]
    prompt, cut = len(example.tokens), sum(example.media[0].spans[0]) // 2
    steps = [
        ((0, 0, cut),),
        ((1, 0, 2), (0, cut, prompt)),
        ((0, prompt, prompt + 1), (1, 2, 4)),
        ((1, 4, 5), (0, prompt + 1, prompt + 2)),
    ]
    worst = 0.0
    for step in steps:
        batch = [
            SequenceSlice(
                CHECKED[which],
                (seeing, text)[which][start:stop],
                start,
                tables[which],
                min(2, stop - start),
                media=() if which else example.media,
                positions=None if which else example.positions,
            )
            for which, start, stop in step
        ]
        expected = torch.cat([alone[which][max(start, stop - 2) : stop] for which, start, stop in step])
        got = execute(batch)
        error = (got.float() - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
        worst = max(worst, error.item() / TOLERANCE.get(got.dtype, 0.1))
    return worst if worst == worst else float("inf")


def shown(lm: CausalLM, prompt: Prompt, length: int) -> dict[str, Tensor]:
    """Arguments of the model's own forward for a prompt with pictures, continued to `length` tokens.

    Which of them are a picture's is told under both names that families have for it.
    """
    kinds = torch.zeros(1, length, dtype=torch.long, device=lm.device)
    for placement in prompt.media:
        for start, stop in placement.spans:
            kinds[:, start:stop] = 1
    return {**together(lm.model, prompt.media), "mm_token_type_ids": kinds, "token_type_ids": kinds}


def blocks_with_picture(example: Prompt, block_size: int) -> int:
    """Blocks that `picture_disagreement` uses."""
    return -(-(len(example.tokens) + ANSWER) // block_size) + -(-LENGTHS[1] // block_size)
