"""Paged attention as one function that transformers calls in place of its own.

transformers looks attention up by name (`AttentionInterface`), so a model needs no change: it is fed *all* sequences of a step
packed into one row, `[1, total_tokens]` with explicit `position_ids`, and every attention layer calls `paged_attention`, which
writes the new keys and values into the layer's blocks and lets each sequence look at its own blocks only.

What the function needs to know about the step travels around the forward in a thread-local `PackedStep`, not as a keyword
argument, because some architectures drop unknown arguments on the way to their attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from serving.infrastructure import varlen
from serving.infrastructure.packed_step import DecodeGroup, PackedStep, PrefillSpan, Reach
from serving.infrastructure.paged_kv import LayerKV

NAME = "serving_paged"


def register() -> None:
    """Make `attn_implementation="serving_paged"` known to transformers. Harmless when repeated."""
    AttentionInterface.register(NAME, paged_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


@dataclass(frozen=True, slots=True)
class Score:
    """How query and key become a weight."""

    scale: float
    softcap: float | None = None
    """Gemma 2: scores are squeezed into (-softcap, softcap)."""
    sinks: Tensor | None = None
    """GPT-OSS: [heads], a learned logit per head that takes attention away and gives nothing."""

    @property
    def plain(self) -> bool:
        return self.softcap is None and self.sinks is None


def paged_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """query [1, heads, T, D]; key [1, kv_heads, T, D]; value [1, kv_heads, T, Dv]. Returns [1, T, heads, Dv], no weights."""
    step = PackedStep.current()
    layer = step.kv.layer(module, key, value, sliding_window)
    layer.write(step.slots, key[0], value[0])
    reach = Reach(sliding_window, layer.chunk)
    score = Score(query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, s_aux)
    if score.plain and varlen.applies(query, layer):
        return varlen.attend(step, query, layer, reach.window, score.scale)[None], None
    if len(step.decodes) == 1 and not step.prefills:
        return _decode(step.decodes[0], query, layer, reach, score)[None], None
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    for group in step.decodes:
        output[group.rows] = _decode(group, query[:, :, group.rows], layer, reach, score)
    for span in step.prefills:
        rows = slice(span.first, span.last)
        if span.start == 0 and reach == Reach() and score.plain:
            output[rows] = _whole_prompt(*(part[:, :, rows] for part in (query, key, value)), score.scale)
        else:
            output[rows] = _prefill(span, query[0, :, rows], layer, reach, score)
    return output[None], None


def _decode(group: DecodeGroup, query: Tensor, layer: LayerKV, reach: Reach, score: Score) -> Tensor:
    """query [1, heads, B, D], one token of each sequence in the order of the group's rows, to [B, heads, Dv]."""
    batch, heads, kv_heads = query.shape[2], query.shape[1], layer.keys.shape[2]
    k, v = (_gather(t, group.blocks, batch) for t in (layer.keys, layer.values))
    # The query heads that share a key head are folded into the query length, which is several times as fast on a CPU
    # as enable_gqa with a single query.
    q = query[0].transpose(0, 1).reshape(batch, kv_heads, heads // kv_heads, -1)
    return _attend(q, k, v, group.mask(reach, k.shape[2]), score).reshape(batch, heads, -1)


def _whole_prompt(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Nothing was computed before: no block needs to be read, and no mask is needed. To [n, heads, Dv]."""
    gqa = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=gqa)
    return out[0].transpose(0, 1)


def _prefill(span: PrefillSpan, query: Tensor, layer: LayerKV, reach: Reach, score: Score) -> Tensor:
    """query [heads, n, D] over its own blocks to [n, heads, Dv]: the general case with a computed prefix."""
    heads, count, kv_heads = query.shape[0], query.shape[1], layer.keys.shape[2]
    k, v = (_gather(t, span.blocks, 1)[:, :, : span.start + count] for t in (layer.keys, layer.values))
    fold = heads // kv_heads
    mask = span.mask(reach).repeat(fold, 1)[None, None]
    out = _attend(query.reshape(1, kv_heads, fold * count, -1), k, v, mask, score)
    return out.reshape(heads, count, -1).transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, score: Score) -> Tensor:
    """q [B, KV, M, D], k and v [B, KV, L, D], mask broadcastable to [B, KV, M, L]; M = query heads per KV head x tokens."""
    if score.plain:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=score.scale)
    scores = (q @ k.transpose(-1, -2)).float() * score.scale
    if score.softcap is not None:
        scores = score.softcap * torch.tanh(scores / score.softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if score.sinks is None:
        return scores.softmax(-1).to(v.dtype) @ v
    kv_heads, tokens = k.shape[1], q.shape[2] * k.shape[1] // score.sinks.numel()
    per_row = score.sinks.float().view(kv_heads, -1).repeat_interleave(tokens, 1)
    column = per_row[None, :, :, None].expand(*scores.shape[:-1], 1)
    return torch.cat((scores, column), -1).softmax(-1)[..., :-1].to(v.dtype) @ v


def _gather(store: Tensor, blocks: Tensor, batch: int) -> Tensor:
    """[capacity, size, KV, D] to [batch, KV, blocks_per_sequence * size, D]."""
    return store.index_select(0, blocks).view(batch, -1, *store.shape[2:]).transpose(1, 2)
