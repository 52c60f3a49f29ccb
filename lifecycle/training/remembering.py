"""Not to forget text while something else is learnt: a model is held to what it would have said (arXiv 1606.09282).

What reinforcement has taught is in no conversation, so what is held on to is not the conversations' own words but what the
model itself would have said in them.
"""

from __future__ import annotations

import random

import torch
from torch import Tensor

from lifecycle.model.decoder import IGNORE, Decoder
from lifecycle.training.batches import Batch, Documents, collate


def remembered(texts: Documents | None, tokens: float, rng: random.Random) -> Batch | None:
    """Conversations drawn until there are about so many tokens, the shortest first; None for no tokens or no texts."""
    if texts is None or texts.learnt is None or tokens <= 0:
        return None
    drawn = []
    while tokens > 0:
        drawn.append(rng.randrange(len(texts.starts)))
        tokens -= texts.ends[drawn[-1]] - texts.starts[drawn[-1]]
    return collate(texts, sorted(drawn, key=texts.lengths.__getitem__))


def forgotten(decoder: Decoder, before: Decoder, told: Batch) -> Tensor:
    """How far a language model is from what it was: the mean over the assistant's tokens of KL(before || now), in nats.

    `before` may know fewer tokens: the others are what it never says.
    """
    device = decoder.lm_head.weight.device
    counted = (told.targets != IGNORE).nonzero()[:, 0].to(device)
    tokens = told.tokens.to(device)
    with torch.no_grad():
        was = before.lm_head(before.model.flat(tokens, told.lengths)[counted]).float().log_softmax(-1)  # [n, vocab_size]
    now = decoder.lm_head(decoder.model.flat(tokens, told.lengths)[counted]).float().log_softmax(-1)
    return (was.exp() * (was - now[:, : was.shape[1]])).sum() / len(counted)
