"""Paged attention as one function that transformers calls in place of its own.

transformers looks attention up by name (`AttentionInterface`), so a model needs no change: it is fed *all* sequences of a step
packed into one row, `[1, total_tokens]` with explicit `position_ids`, and every attention layer calls `paged_attention`, which
writes the new keys and values into the layer's blocks and lets each sequence look at its own blocks only.

What the function needs to know about the step travels around the forward in a thread-local `PackedStep`, not as a keyword
argument, because some architectures drop unknown arguments on the way to their attention.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from serving.application.ports import SequenceSlice

NAME = "serving_paged"
_local = threading.local()


def register() -> None:
    """Make `attn_implementation="serving_paged"` known to transformers. Harmless when repeated."""
    AttentionInterface.register(NAME, paged_attention)
    AttentionMaskInterface.register(NAME, lambda *args, **kwargs: None)


class PagedKV:
    """Keys and values of all layers. Per layer two tensors [num_blocks, block_size, kv_heads, head_dim].

    A layer's tensors are made at its first use, because only the call tells kv_heads and head_dim for every architecture.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.layers: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def layer(self, module: nn.Module, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        if module not in self.layers:
            # Zeros, not empty: padding may be gathered from blocks never written, and 0 * NaN is NaN.
            shapes = [(self.num_blocks, self.block_size, t.shape[1], t.shape[3]) for t in (key, value)]
            self.layers[module] = tuple(torch.zeros(s, dtype=key.dtype, device=key.device) for s in shapes)
        return self.layers[module]

    @property
    def bytes_per_block(self) -> int:
        """Over all layers used so far."""
        return sum(t[0].numel() * t.element_size() for pair in self.layers.values() for t in pair)


@dataclass(slots=True)
class DecodeGroup:
    """All sequences with exactly one token in this step: attended together, in blocks padded to the longest."""

    rows: Tensor  # [B] where their tokens are in the packed row
    blocks: Tensor  # [B * blocks_per_sequence] block numbers, padded with block 0
    positions: Tensor  # [B]
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, length: int) -> Tensor:
        """[B, 1, 1, length], True where a key is visible."""
        if window not in self.masks:
            keys, queries = torch.arange(length, device=self.positions.device), self.positions[:, None]
            self.masks[window] = _visible(queries, keys, window)[:, None, None]
        return self.masks[window]


@dataclass(slots=True)
class PrefillSpan:
    """One sequence with several tokens: rows `first` to `last` of the packed row, at positions from `start`."""

    first: int
    last: int
    start: int
    blocks: Tensor  # block numbers that hold positions 0 to start + (last - first)
    masks: dict[int | None, Tensor] = field(default_factory=dict)

    def mask(self, window: int | None) -> Tensor:
        """[tokens, start + tokens], True where a key is visible."""
        if window not in self.masks:
            keys = torch.arange(self.start + self.last - self.first, device=self.blocks.device)
            self.masks[window] = _visible(keys[self.start :, None], keys, window)
        return self.masks[window]


@dataclass(slots=True)
class PackedStep:
    """A step's layout: which row of the packed input belongs where."""

    kv: PagedKV
    input_ids: Tensor  # [1, T]
    position_ids: Tensor  # [1, T]
    logit_rows: Tensor  # [N] rows whose logits are wanted
    slots: Tensor  # [T] block * block_size + offset: where each token's key and value go
    decodes: DecodeGroup | None
    prefills: list[PrefillSpan]

    @classmethod
    def pack(cls, batch: Sequence[SequenceSlice], kv: PagedKV, device: torch.device) -> PackedStep:
        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        size = kv.block_size
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[Tensor | int] = []
        logit_rows: list[int] = []
        decodes: list[tuple[int, SequenceSlice]] = []
        prefills: list[PrefillSpan] = []
        for item in batch:
            first, count = len(tokens), len(item.tokens)
            tokens += item.tokens
            positions += range(item.start, item.start + count)
            slots += (item.block_table[p // size] * size + p % size for p in range(item.start, item.start + count))
            if item.needs_logits:
                logit_rows.append(first + count - 1)
            if count == 1:
                decodes.append((first, item))
            else:
                blocks = tensor(list(item.block_table[: -(-(item.start + count) // size)]))
                prefills.append(PrefillSpan(first, first + count, item.start, blocks))
        return cls(
            kv=kv,
            input_ids=tensor(tokens)[None],
            position_ids=tensor(positions)[None],
            logit_rows=tensor(logit_rows),
            slots=tensor(slots),
            decodes=cls._group(decodes, size, tensor) if decodes else None,
            prefills=prefills,
        )

    @staticmethod
    def _group(decodes: list[tuple[int, SequenceSlice]], size: int, tensor) -> DecodeGroup:
        width = max(item.start for _, item in decodes) // size + 1
        blocks: list[int] = []
        for _, item in decodes:
            known = item.block_table[: item.start // size + 1]
            blocks += known
            blocks += [0] * (width - len(known))
        return DecodeGroup(
            tensor([row for row, _ in decodes]), tensor(blocks), tensor([item.start for _, item in decodes])
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """`paged_attention` called by this thread inside belongs to this step."""
        _local.step = self
        try:
            yield
        finally:
            _local.step = None


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
    """query [1, heads, T, D]; key, value [1, kv_heads, T, D or Dv]. Returns [1, T, heads, Dv] and no weights."""
    step: PackedStep = _local.step
    keys, values = step.kv.layer(module, key, value)
    keys.flatten(0, 1).index_copy_(0, step.slots, key[0].transpose(0, 1))
    values.flatten(0, 1).index_copy_(0, step.slots, value[0].transpose(0, 1))
    extras = {"scale": scaling or query.shape[-1] ** -0.5, "softcap": softcap, "sinks": s_aux}
    if step.decodes and not step.prefills:
        return _decode(step.decodes, query, keys, values, sliding_window, extras)[None], None
    output = query.new_empty(query.shape[2], query.shape[1], value.shape[3])
    if step.decodes:
        rows = step.decodes.rows
        output[rows] = _decode(step.decodes, query[:, :, rows], keys, values, sliding_window, extras)
    for span in step.prefills:
        rows = slice(span.first, span.last)
        if span.start == 0 and sliding_window is None and softcap is None and s_aux is None:
            parts = (part[:, :, rows] for part in (query, key, value))
            gqa = query.shape[1] != key.shape[1]
            out = F.scaled_dot_product_attention(*parts, is_causal=True, scale=extras["scale"], enable_gqa=gqa)
            output[rows] = out[0].transpose(0, 1)
        else:
            output[rows] = _prefill(span, query[0, :, rows], keys, values, sliding_window, extras)
    return output[None], None


def _decode(group: DecodeGroup, query: Tensor, keys: Tensor, values: Tensor, window: int | None, extras) -> Tensor:
    """query [1, heads, B, D] to [B, heads, Dv]."""
    batch, heads, kv_heads = query.shape[2], query.shape[1], keys.shape[2]
    # [B, L, KV, D] -> [B, KV, L, D]; the group of query heads that share a key head is folded into the query length,
    # which is several times as fast on a CPU as enable_gqa with a single query.
    k, v = (_gather(t, group.blocks, batch).transpose(1, 2) for t in (keys, values))
    q = query[0].transpose(0, 1).reshape(batch, kv_heads, heads // kv_heads, -1)
    out = _attend(q, k, v, group.mask(window, k.shape[2]), **extras)
    return out.reshape(batch, heads, -1)


def _prefill(span: PrefillSpan, query: Tensor, keys: Tensor, values: Tensor, window: int | None, extras) -> Tensor:
    """query [heads, n, D] over its own blocks to [n, heads, Dv]: the general case with a computed prefix."""
    heads, count, kv_heads = query.shape[0], query.shape[1], keys.shape[2]
    length = span.start + count
    k, v = (_gather(t, span.blocks, 1)[:, :length].transpose(1, 2) for t in (keys, values))
    fold = heads // kv_heads
    q = query.reshape(1, kv_heads, fold * count, -1)
    mask = span.mask(window).repeat(fold, 1)[None, None]
    out = _attend(q, k, v, mask, **extras)
    return out.reshape(heads, count, -1).transpose(0, 1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, *, scale: float, softcap: float | None, sinks: Tensor | None
) -> Tensor:
    """q [B, KV, M, D], k and v [B, KV, L, D], mask broadcastable to [B, KV, M, L]; M = query heads per KV head x tokens."""
    if softcap is None and sinks is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    scores = (q @ k.transpose(-1, -2)).float() * scale
    if softcap is not None:  # Gemma 2
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf"))
    if sinks is not None:  # GPT-OSS: a learned logit per head that takes attention away and gives nothing
        per_row = sinks.float().view(k.shape[1], -1).repeat_interleave(q.shape[2] * k.shape[1] // sinks.numel(), 1)
        column = per_row[None, :, :, None].expand(*scores.shape[:-1], 1)
        weights = torch.cat((scores, column), -1).softmax(-1)[..., :-1]
    else:
        weights = scores.softmax(-1)
    return weights.to(v.dtype) @ v


def _gather(store: Tensor, blocks: Tensor, batch: int) -> Tensor:
    """[num_blocks, size, KV, D] to [batch, blocks_per_sequence * size, KV, D]."""
    return store.index_select(0, blocks).view(batch, -1, *store.shape[2:])


def _visible(queries: Tensor, keys: Tensor, window: int | None) -> Tensor:
    causal = keys <= queries
    return causal if window is None else causal & (keys > queries - window)
