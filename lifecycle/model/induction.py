"""A start that can look things up: an induction circuit, laid out before the first step and then trained like the rest.

Whoever answers "what stood beside this, further up?" needs two attention layers that work together: one that tells each
position what stood before it, and one that finds the position that the question is about and takes from there what stood
beside it. From random weights neither is of any use without the other, and small models find the pair only after millions of
tokens. Here both are there from the start, weakly, and gradient descent sharpens what helps and overwrites what does not.
Embeddings are longer than `Decoder.initialise` makes them, and the last norm is as much weaker: the logits are as they were, but
which word it is, and not only of which kind, outweighs what layer 0 writes by chance. It stays a plain Llama: only the values
of some weights differ.

The circuit is that of Olsson et al., "In-context Learning and Induction Heads" (arXiv 2209.11895); starting weights that
imitate trained ones are the idea of Trockman and Kolter, "Mimetic Initialization" (arXiv 2305.09828).

Shapes in the comments: E = hidden_size, D = head_dim, m = width of one subspace.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lifecycle.errors import LifecycleError
from lifecycle.model.decoder import Attention, Decoder

IDENTITY = 5.0
"""How many times longer embeddings become."""
COMMON = 1.3
"""Length of the direction that all embeddings share, as a part of the length of an embedding's own."""
SHARPNESS = 10.0
"""Attention logit, per rotary frequency, of the distance that a head of layer 0 looks at."""
FAST = 0.25
"""Rotary frequencies, in radians a position, that such a head uses: those below say the same of neighbours, but loudly, and how loudly
differs from token to token."""
WINDOW_SHARPNESS = 1.5
"""The same for the head that looks over a few positions: flatter."""
WINDOW = 6
"""Positions that this head averages over, about."""
GAIN = 0.4
"""How strongly layer 0 writes what it has seen."""
MATCH = 1.8
"""Scale of the queries and keys with which layers 1 and 2 compare subspaces."""
COPY = 0.6
"""How strongly they write the token that they have found."""
SLOW = 0.02
"""Rotary frequencies, in radians a position, below which distance hardly disturbs a comparison."""
WINDOW_FREQUENCY = 0.35
"""Rotary frequencies below this one cannot tell neighbours apart: the window head uses these."""

OWN, BEFORE, TWO_BEFORE, AROUND = range(4)
WRITTEN = (BEFORE, TWO_BEFORE, AROUND, None)
"""What head h of layer 0 writes, h modulo 4; the last is left to chance."""
FOUND = (
    ((BEFORE, OWN, BEFORE), (OWN, BEFORE, OWN), (TWO_BEFORE, OWN, AROUND), (OWN, OWN, AROUND)),
    ((TWO_BEFORE, OWN, AROUND), (BEFORE, OWN, BEFORE), (BEFORE, OWN, AROUND), (AROUND, OWN, AROUND)),
)
"""What key and value head h of layer 1, and of layer 2, compares, h modulo 4: of its own position, of those before, and what it takes
from where they are alike. The first of layer 1 finds what stood before the last word ("a green belt ... The belt is"), the
second what stood behind this one, the third in what company the word before the last stood ("Ben had a green belt ... The belt is
with"), the fourth in what company this one stood elsewhere, or that it stood nowhere else."""


@torch.no_grad()
def wire_induction(model: Decoder, seed: int = 0) -> None:
    """Add an induction circuit to the first two or three layers of a freshly initialised `model`.

    Raises LifecycleError when the shape has no room for one: it takes two layers and heads at least 8 wide.
    """
    config = model.config
    if config.num_layers < 2 or config.head_dim < 8:
        raise LifecycleError(
            f"an induction circuit takes 2 layers and heads 8 wide, not {config.num_layers} and {config.head_dim}: "
            'make the model larger or use --set start=random'
        )
    spaces = Subspaces.draw(model, seed)
    embeddings = model.model.embed_tokens.weight
    embeddings *= IDENTITY
    if config.tie_embeddings:
        model.model.norm.weight /= IDENTITY
    embeddings -= torch.outer(embeddings @ spaces.common, spaces.common)  # all have as much of it
    embeddings += COMMON * embeddings.std() * math.sqrt(config.hidden_size) * spaces.common
    _look_back(model, spaces)
    for layer, found in zip(model.model.layers[1:], FOUND, strict=False):
        _compare(layer.self_attn, spaces, found)


@dataclass(frozen=True)
class Subspaces:
    """Directions of the residual stream that are orthogonal to each other."""

    common: Tensor
    """[E], what every embedding contains; a tied output layer adds the same to all logits, so it says nothing."""
    parts: Tensor
    """[4, m, E]: the token itself, the one before, the one before that, and those around it."""
    slow: Tensor
    """[m], coordinates of a head in which layers 1 and 2 compare."""

    @classmethod
    def draw(cls, model: Decoder, seed: int) -> Subspaces:
        config, generator = model.config, torch.Generator().manual_seed(seed)
        basis = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size, generator=generator))[0].T
        pairs = torch.nonzero(frequencies(model) < SLOW)[:, 0]
        slow = torch.cat((pairs, pairs + config.head_dim // 2))
        slow = slow[: (config.hidden_size - 1) // 4]
        return cls(basis[0], basis[1 : 1 + 4 * len(slow)].view(4, len(slow), -1), slow)


def frequencies(model: Decoder) -> Tensor:
    """Rotary frequencies, [D / 2] in radians a position."""
    return torch.atan2(model.model.sin[1], model.model.cos[1])


def _look_back(model: Decoder, spaces: Subspaces) -> None:
    """Layer 0: a query and a key that every token has alike, turned against each other by a distance; RoPE does the rest."""
    config, attention = model.config, model.model.layers[0].self_attn
    D, half, speeds = config.head_dim, config.head_dim // 2, frequencies(model)
    along = math.sqrt(config.hidden_size) * COMMON / math.sqrt(1 + COMMON**2)  # of a normalised embedding, on `common`
    unit = math.sqrt(D) / along**2
    strength = GAIN / max(1, config.num_heads // len(WRITTEN))  # several heads write the same
    for key, value in zip(_heads(attention.k_proj.weight, D), _heads(attention.v_proj.weight, D), strict=True):
        key += torch.outer(torch.cat((torch.ones(half), torch.zeros(half))), spaces.common)
        value.mul_(0.1)[: len(spaces.slow)] += spaces.parts[OWN]
    queries, outputs = (_heads(weight, D) for weight in (attention.q_proj.weight, attention.o_proj.weight.T))
    for head, (query, output) in enumerate(zip(queries, outputs, strict=True)):
        match WRITTEN[head % len(WRITTEN)]:
            case None:
                continue
            case part if part == AROUND:
                turn, size, gain = (WINDOW - 1) / 2, WINDOW_SHARPNESS * (speeds < WINDOW_FREQUENCY), strength * math.sqrt(WINDOW)
            case part:
                turn, size, gain = part, SHARPNESS * (speeds > FAST), strength
        turned = torch.cat((torch.cos(turn * speeds) * size, -torch.sin(turn * speeds) * size))
        query += torch.outer(unit * turned, spaces.common)
        output[: len(spaces.slow)] += gain * spaces.parts[part]


def _compare(attention: Attention, spaces: Subspaces, found: Sequence[tuple[int, int, int]]) -> None:
    """Attend to where a subspace holds what the query's holds, and write a token that stands there.

    Of the queries that share a key the first does so, the others are left to chance.
    """
    D, shared, m = attention.head_dim, attention.H // attention.K, len(spaces.slow)
    queries, outputs = (_heads(weight, D)[::shared] for weight in (attention.q_proj.weight, attention.o_proj.weight.T))
    keys, values = _heads(attention.k_proj.weight, D), _heads(attention.v_proj.weight, D)
    for head, (query, key, value, output) in enumerate(zip(queries, keys, values, outputs, strict=True)):
        asked, compared, taken = found[head % len(found)]
        query[spaces.slow] += MATCH * spaces.parts[asked]
        key[spaces.slow] += MATCH * spaces.parts[compared]
        value[:m] += spaces.parts[taken]
        output[:m] += COPY * spaces.parts[OWN]


def _heads(weight: Tensor, width: int) -> tuple[Tensor, ...]:
    """Views of each head's rows, [width, E]."""
    return weight.split(width)
