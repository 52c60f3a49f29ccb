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
from serving.infrastructure.packed_step import DecodeGroup, PackedStep, PrefillSpan, Reach, as_bias
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
    heads, batch = query.shape[1], query.shape[2]
    k, v = layer.gather(group.blocks, batch)
    q = query[0].unflatten(0, (len(k), -1)).transpose(1, 2)
    out = _attend(q, k, v, group.bias(reach, k.shape[2]), score)
    return out.transpose(0, 1).reshape(batch, heads, -1).contiguous()  # some architectures call view on it


def _whole_prompt(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Nothing was computed before: no block needs to be read, and no mask is needed. To [n, heads, Dv]."""
    gqa = query.shape[1] != key.shape[1]
    out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale, enable_gqa=gqa)
    return out[0].transpose(0, 1)


def _prefill(span: PrefillSpan, query: Tensor, layer: LayerKV, reach: Reach, score: Score) -> Tensor:
    """query [heads, n, D] over its own blocks to [n, heads, Dv]: the general case with a computed prefix."""
    heads, count, head_dim = query.shape
    k, v = (t[:, :, : span.start + count] for t in layer.gather(span.blocks, 1))
    q = query.reshape(len(k), 1, -1, head_dim)  # rows: query heads of a key head, times tokens
    mask = span.mask(reach).repeat(heads // len(k), 1)[None]
    if score.plain:  # never writes all scores down at once, which matters for long prompts
        parts = (t.transpose(0, 1) for t in (q, k, v))
        out = F.scaled_dot_product_attention(*parts, attn_mask=mask[None], scale=score.scale)
    else:
        out = _attend(q, k, v, as_bias(mask), score)
    return out.reshape(heads, count, -1).transpose(0, 1)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, score: Score) -> Tensor:
    """q [KV, B, rows, D], k [KV, B, L, D], v [KV, B, L, Dv], bias [B, 1 or rows, L] to [KV, B, rows, Dv].

    Two batched matrix products: with the few rows of a decode, torch's fused attention takes several times as long on a CPU.
    """
    scores = (q * score.scale @ k.transpose(-1, -2)).float()
    if score.softcap is not None:
        scores = score.softcap * torch.tanh(scores / score.softcap)
    scores += bias
    if score.sinks is None:
        return scores.softmax(-1).to(v.dtype) @ v
    sinks = score.sinks.float().view(len(k), -1)
    sinks = sinks.repeat_interleave(q.shape[2] // sinks.shape[1], 1)[:, None, :, None]
    weights = torch.cat((scores, sinks.expand(*scores.shape[:-1], 1)), -1).softmax(-1)[..., :-1]
    return weights.to(v.dtype) @ v
