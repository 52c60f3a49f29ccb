"""A model that knows more tokens than it did: new rows behind those of the tokens that it knows, which stay what they are."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lifecycle.model.decoder import Decoder

MULTIPLE = 64
"""The vocabulary is filled up to a multiple of this: products with odd sizes are slow."""


@torch.no_grad()
def fitted(decoder: Decoder, tokens: int) -> Decoder:
    """The same model without rows that stand for no token: a vocabulary may be planned larger than what there was to learn."""
    if tokens >= decoder.config.vocab_size:
        return decoder
    smaller = Decoder(replace(decoder.config, vocab_size=tokens))
    for name, weight in smaller.named_parameters():
        weight.copy_(decoder.get_parameter(name)[: len(weight)])
    return smaller.train(decoder.training)


@torch.no_grad()
def widened(decoder: Decoder, tokens: int) -> Decoder:
    """The same model with rows of zeros for ids up to `tokens`; the logits of the tokens that it has stay what they were."""
    wider = Decoder(replace(decoder.config, vocab_size=-(-tokens // MULTIPLE) * MULTIPLE))
    for name, weight in wider.named_parameters():
        old = decoder.get_parameter(name)
        weight[len(old) :] = 0.0
        weight[: len(old)] = old
    return wider


def tables(decoder: Decoder) -> list[Tensor]:
    """What has a row for each token: the embedding and, where it is not the same, the output layer."""
    return list({id(weight): weight for weight in (decoder.model.embed_tokens.weight, decoder.lm_head.weight)}.values())
