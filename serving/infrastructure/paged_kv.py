"""Where keys and values live: per attention layer two tensors of blocks, made at first use and grown as blocks are used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

FIRST_BLOCKS = 64


@dataclass(slots=True)
class LayerKV:
    """Keys [kv_heads, capacity, block_size, D] and values [kv_heads, capacity, block_size, Dv] of one layer.

    Heads come first, so that blocks copied together are one long sequence per head, as a matrix product wants them.
    """

    keys: Tensor
    values: Tensor
    window: int | None
    chunk: int | None
    """Attention inside chunks of this many positions (Llama 4), which no argument of the attention tells."""

    def write(self, slots: Tensor, key: Tensor, value: Tensor) -> None:
        """key [kv_heads, T, D] and value [kv_heads, T, Dv] into slots [T] = block * block_size + offset.

        What is no number is stored as 0: a mask cannot hide it (0 * NaN is NaN), so one sequence that overflows would spoil
        whoever is padded with its blocks or inherits them. Its own logits are spoilt all the same.
        """
        for store, new in ((self.keys, key), (self.values, value)):
            store.flatten(1, 2).index_copy_(1, slots, new.nan_to_num(0.0, 0.0, 0.0))

    def gather(self, blocks: Tensor, batch: int) -> tuple[Tensor, Tensor]:
        """Keys [kv_heads, batch, L, D] and values [kv_heads, batch, L, Dv] of `batch` sequences with as many blocks each."""
        keys, values = (store.index_select(1, blocks) for store in (self.keys, self.values))
        return keys.view(len(keys), batch, -1, keys.shape[-1]), values.view(len(values), batch, -1, values.shape[-1])


class PagedKV:
    """The blocks of all layers.

    A layer's tensors are made by its first call, because only that tells kv_heads and both head sizes for every
    architecture. Storage follows the highest block in use and not `num_blocks`: pools hand out low numbers first, so a
    generous limit costs nothing until it is needed.
    """

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.layers: dict[nn.Module, LayerKV] = {}
        self._capacity = min(num_blocks, FIRST_BLOCKS)

    def reserve(self, highest: int) -> None:
        """Make room for block number `highest`; doubling, so that a block is copied once on average.

        Where memory does not suffice there is room for as many blocks as before.
        """
        if highest < self._capacity:
            return
        if highest >= self.num_blocks:
            raise IndexError(f"block {highest} of a pool of {self.num_blocks}")
        capacity = min(self.num_blocks, max(2 * self._capacity, highest + 1))
        for layer in self.layers.values():  # those that had grown when memory ran out stay as they are
            layer.keys, layer.values = _grown(layer.keys, capacity), _grown(layer.values, capacity)
        self._capacity = capacity

    def layer(self, module: nn.Module, key: Tensor, value: Tensor, window: int | None) -> LayerKV:
        """The storage of an attention module; key and value [1, kv_heads, T, D] say what it has to hold."""
        if module not in self.layers:
            # Zeros, not empty: padding may be gathered from blocks never written, and 0 * NaN is NaN.
            shapes = [(t.shape[1], self._capacity, self.block_size, t.shape[3]) for t in (key, value)]
            keys, values = (torch.zeros(shape, dtype=key.dtype, device=key.device) for shape in shapes)
            self.layers[module] = LayerKV(keys, values, window, _chunk(module))
        return self.layers[module]

    @property
    def bytes_per_block(self) -> int:
        """Over all layers used so far."""
        return self.allocated_bytes // self._capacity

    @property
    def allocated_bytes(self) -> int:
        return sum(t.nbytes for layer in self.layers.values() for t in (layer.keys, layer.values))


def _grown(blocks: Tensor, capacity: int) -> Tensor:
    if blocks.shape[1] >= capacity:
        return blocks
    larger = blocks.new_zeros(len(blocks), capacity, *blocks.shape[2:])
    larger[:, : blocks.shape[1]] = blocks
    return larger


def _chunk(module: nn.Module) -> int | None:
    config, index = getattr(module, "config", None), getattr(module, "layer_idx", None)
    types = getattr(config, "layer_types", None)
    if types and index is not None and types[index] == "chunked_attention":
        return config.attention_chunk_size
    return None
