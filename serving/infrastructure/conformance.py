"""Does a backend compute what the model computes? Asked once per model and way of driving it, before it serves anyone.

Some architectures cannot be driven in some ways, and most of those fail silently: an attention that ignores the plug, a
layer that looks across sequences, a state that is forgotten between two chunks. So nothing is looked up in a list of names:
two sequences of different length go through the backend in chunks, together, and have to get the logits that each gets alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from serving.application.ports import SequenceSlice
from serving.infrastructure.causal_lm import CausalLM

LENGTHS = (9, 5)
CHECKED = ("check-0", "check-1")
"""Ids of the two sequences."""
STEPS = (
    ((0, 0, 3),),
    ((0, 3, 6), (1, 0, 2)),
    ((0, 6, 7), (1, 2, 4)),
    ((1, 4, 5), (0, 7, 8)),
    ((0, 8, 9),),
    ((0, 6, 9), (1, 4, 5)),
)
"""(sequence, first token, token after the last) of each slice."""
TOLERANCE = {torch.float32: 5e-5, torch.bfloat16: 0.1, torch.float16: 0.05}  # of the largest logit


class UnsupportedArchitecture(Exception):
    """The model cannot be driven in this way."""


def disagreement(
    lm: CausalLM,
    execute: Callable[[Sequence[SequenceSlice]], Tensor],
    block_size: int,
    *,
    adapters: Sequence[str | None] = (None, None),
    reference: Callable[[Sequence[int], str | None], Tensor] | None = None,
) -> float:
    """Largest difference to the eager logits of each sequence alone, in units of what its dtype forgives: above 1 is wrong.

    `execute` is a backend's; it gets `blocks_needed(block_size)` blocks' numbers and two sequences in the steps that an
    architecture might get wrong: a first chunk, a later chunk beside a prompt, a decode beside a chunk, two decodes, and a
    step back. Of every chunk it wants the logits after the last two tokens. `adapters` are those of the two sequences, and
    `reference` what each of them gets alone, with its adapter.
    """
    sequences = [[(3 + 5 * which + 7 * i * i) % lm.vocab_size for i in range(n)] for which, n in enumerate(LENGTHS)]
    reference = reference or (lambda tokens, _: lm.reference(tokens))
    alone = [reference(tokens, adapter).float() for tokens, adapter in zip(sequences, adapters, strict=True)]
    width = -(-max(LENGTHS) // block_size)
    tables = [list(range(which * width, (which + 1) * width)) for which in range(len(LENGTHS))]
    worst = 0.0
    for step in STEPS:
        batch = [
            SequenceSlice(
                CHECKED[which],
                sequences[which][start:stop],
                start,
                tables[which],
                min(2, stop - start),
                adapter=adapters[which],
            )
            for which, start, stop in step
        ]
        expected = torch.cat([alone[which][max(start, stop - 2) : stop] for which, start, stop in step])
        got = execute(batch)
        error = (got.float() - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
        worst = max(worst, error.item() / TOLERANCE.get(got.dtype, 0.1))
        if not worst <= 1:  # also when it is no number
            return float("inf") if worst != worst else worst
    return worst


def blocks_needed(block_size: int) -> int:
    """Blocks that `disagreement` uses."""
    return len(LENGTHS) * -(-max(LENGTHS) // block_size)
