"""Sequences of different length in one transformers `Cache`, and out of it again.

A cache knows one length for all its rows. Shorter rows are padded on the left, where an attention mask hides them, so that
every row's next token goes to the same place. States of recurrent layers have no length: they are stacked.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache
from transformers.cache_utils import (
    Cache,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)

GROWING = ("keys", "values")  # [rows, heads, length, head_dim]; every other tensor of a layer is [rows, ...]


def empty_cache(kind: type[Cache], config: Any) -> Cache:
    """What a model of this config keeps between two tokens, nothing in it; `kind` is the class that it makes by itself.

    Layers with a window keep everything, too: what they cut away differs between rows, and a mask does it as well.
    """
    cache = kind(config=config) if kind is DynamicCache else kind()
    cache.layers = [_without_window(layer) for layer in cache.layers]
    return cache


def stack(caches: Sequence[Cache], lengths: Sequence[int]) -> Cache:
    """One cache with a row per cache of a single row; row i is padded on the left by max(lengths) - lengths[i]."""
    longest = max(lengths)

    def join(parts: Sequence[Tensor], growing: bool) -> Tensor:
        if growing:
            parts = [F.pad(part, (0, 0, longest - length, 0)) for part, length in zip(parts, lengths, strict=True)]
        return torch.cat(list(parts))

    return _combine(caches, join)


def take(cache: Cache, row: int, length: int) -> Cache:
    """One row of a stacked cache, without its padding; shares no memory with it."""

    def cut(parts: Sequence[Tensor], growing: bool) -> Tensor:
        part = parts[0][row : row + 1]
        return (part[:, :, part.shape[2] - length :] if growing else part).clone()

    return _combine([cache], cut)


def shorten(cache: Cache, length: int) -> Cache:
    """The first `length` positions of a cache of a single row in which everything grows; the original stays as it is."""
    return _combine([cache], lambda parts, growing: parts[0][:, :, :length])


def grows(cache: Cache) -> bool:
    """Whether any part of it becomes longer with every token."""
    return any(getattr(layer, "keys", None) is not None for layer in cache.layers)


def cache_bytes(cache: Cache) -> tuple[int, int]:
    """(bytes that grow with the length, bytes that do not)."""
    sizes = [0, 0]

    def count(parts: Sequence[Tensor], growing: bool) -> Tensor:
        sizes[not growing] += parts[0].nbytes
        return parts[0]

    _combine([cache], count)
    return sizes[0], sizes[1]


def _combine(caches: Sequence[Cache], join: Callable[[Sequence[Tensor], bool], Tensor]) -> Cache:
    """A new cache whose tensors are `join(tensors of all caches, whether they grow)`, layer by layer."""

    def joined(name: str, values: Sequence[Any]) -> Any:
        if isinstance(values[0], Tensor):
            # A tensor without elements stands for "nothing yet".
            return join(values, name in GROWING) if values[0].numel() else values[0]
        if isinstance(values[0], dict):
            return {key: joined(name, [value[key] for value in values]) for key in values[0]}
        if isinstance(values[0], list):
            return [joined(name, parts) for parts in zip(*values, strict=True)]
        return values[0]

    def merged(parts: Sequence[Any]) -> Any:
        result = copy.copy(parts[0])
        for name, value in vars(parts[0]).items():
            if name != "layers":
                setattr(result, name, joined(name, [value, *(getattr(other, name) for other in parts[1:])]))
        return result

    result = merged(caches)
    result.layers = [merged(layers) for layers in zip(*(cache.layers for cache in caches), strict=True)]
    return result


def _without_window(layer: Any) -> Any:
    if type(layer) is DynamicSlidingWindowLayer:
        return DynamicLayer()
    if type(layer) is LinearAttentionAndSlidingWindowAttentionLayer:
        return LinearAttentionAndFullAttentionLayer(number_of_states=layer.number_of_states)
    return layer
