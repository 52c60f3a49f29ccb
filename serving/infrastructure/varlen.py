"""The same attention in one kernel on CUDA: torch's variable-length flash attention over ragged sequences."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from serving.infrastructure.packed_step import PackedStep
from serving.infrastructure.paged_kv import LayerKV

HALF = (torch.float16, torch.bfloat16)
LARGEST_HEAD = 256
PAGE = 256  # the kernel reads blocks in place when their size is a multiple of this, which FlashAttention 2 demands


def applies(query: Tensor, layer: LayerKV) -> bool:
    """Whether the kernel takes these: half precision on CUDA, one head size for keys and values, no attention chunks."""
    head, value_head = layer.keys.shape[-1], layer.values.shape[-1]
    return (
        query.is_cuda
        and query.dtype in HALF
        and head == value_head
        and head % 8 == 0
        and head <= LARGEST_HEAD
        and layer.chunk is None
    )


def attend(step: PackedStep, query: Tensor, layer: LayerKV, window: int | None, scale: float) -> Tensor:
    """query [1, heads, T, D], keys and values written already, to [T, heads, D].

    `num_splits=1` makes a sequence's result independent of its batch mates.
    """
    counts = [len(item.tokens) for item in step.slices]
    lengths = [item.start + len(item.tokens) for item in step.slices]
    paged = step.kv.block_size % PAGE == 0
    # The kernel counts [blocks, block_size, kv_heads, D]; strides are all it needs.
    keys, values = (t.permute(1, 2, 0, 3) for t in (layer.keys, layer.values)) if paged else _contiguous(step, layer)
    return varlen_attn(
        query[0].transpose(0, 1),
        keys,
        values,
        _offsets(counts, query.device),
        None if paged else _offsets(lengths, query.device),
        max(counts),
        max(lengths),
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != layer.keys.shape[0],
        seqused_k=torch.tensor(lengths, dtype=torch.int32, device=query.device) if paged else None,
        block_table=_tables(step, query.device) if paged else None,
        num_splits=1,
    )


def _offsets(counts: list[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *accumulate(counts)], dtype=torch.int32, device=device)


def _tables(step: PackedStep, device: torch.device) -> Tensor:
    """[sequences, blocks of the longest] int32, padded with block 0."""
    width = max(len(item.block_table) for item in step.slices)
    rows = [[*item.block_table, *[0] * (width - len(item.block_table))] for item in step.slices]
    return torch.tensor(rows, dtype=torch.int32, device=device)


def _contiguous(step: PackedStep, layer: LayerKV) -> tuple[Tensor, Tensor]:
    """[all positions of all sequences, kv_heads, D]: smaller blocks than a page are copied together."""
    size = step.kv.block_size
    slots = [
        item.block_table[position // size] * size + position % size
        for item in step.slices
        for position in range(item.start + len(item.tokens))
    ]
    index = torch.tensor(slots, dtype=torch.long, device=layer.keys.device)
    return tuple(t.flatten(1, 2).index_select(1, index).transpose(0, 1) for t in (layer.keys, layer.values))
