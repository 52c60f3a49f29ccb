"""The layout of one packed step: which row of the packed input belongs to whom, and which keys each row may see."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from serving.application.ports import SequenceSlice
from serving.infrastructure.paged_kv import PagedKV

NARROW = 16  # blocks; below this, padding costs less than a further group
_local = threading.local()
_ToTensor = Callable[[list[int]], Tensor]


class Reach(NamedTuple):
    """How far back a layer sees: everything, the last `window` positions, or what is in the same chunk of positions."""

    window: int | None = None
    chunk: int | None = None

    def mask(self, queries: Tensor, keys: Tensor) -> Tensor:
        """True where a key is visible; positions that broadcast against each other."""
        visible = keys <= queries
        if self.window is not None:
            visible = visible & (keys > queries - self.window)
        if self.chunk is not None:
            visible = visible & (keys // self.chunk == queries // self.chunk)
        return visible


def as_bias(mask: Tensor) -> Tensor:
    """Float32 to add to scores instead of a mask: several times as fast on a CPU as filling in."""
    return torch.zeros(mask.shape, dtype=torch.float32, device=mask.device).masked_fill_(~mask, float("-inf"))


@dataclass(slots=True)
class DecodeGroup:
    """Sequences of similar length with one token each: attended together, in blocks padded to the longest."""

    rows: Tensor  # [B] where their tokens are in the packed row
    blocks: Tensor  # [B * blocks_per_sequence] block numbers, padded with block 0
    positions: Tensor  # [B]
    biases: dict[Reach, Tensor] = field(default_factory=dict)

    def bias(self, reach: Reach, length: int) -> Tensor:
        """[B, 1, length], what to add to scores: 0 where a key is visible, else -inf. Made once for all layers."""
        if reach not in self.biases:
            keys = torch.arange(length, device=self.positions.device)
            self.biases[reach] = as_bias(reach.mask(self.positions[:, None], keys)[:, None])
        return self.biases[reach]


@dataclass(slots=True)
class PrefillSpan:
    """One sequence with several tokens: rows `first` to `last` of the packed row, at positions from `start`."""

    first: int
    last: int
    start: int
    blocks: Tensor  # block numbers that hold positions 0 to start + (last - first)
    masks: dict[Reach, Tensor] = field(default_factory=dict)

    def mask(self, reach: Reach) -> Tensor:
        """[tokens, start + tokens], True where a key is visible."""
        if reach not in self.masks:
            keys = torch.arange(self.start + self.last - self.first, device=self.blocks.device)
            self.masks[reach] = reach.mask(keys[self.start :, None], keys)
        return self.masks[reach]


@dataclass(slots=True)
class PackedStep:
    """Everything about a step that attention has to know."""

    kv: PagedKV
    slices: Sequence[SequenceSlice]
    input_ids: Tensor  # [1, T]
    position_ids: Tensor  # [1, T]
    logit_rows: Tensor  # [N] rows whose logits are wanted
    slots: Tensor  # [T] block * block_size + offset: where each token's key and value go
    decodes: list[DecodeGroup]
    prefills: list[PrefillSpan]

    @classmethod
    def pack(cls, batch: Sequence[SequenceSlice], kv: PagedKV, device: torch.device) -> PackedStep:
        """Rows in the order of `batch`, each sequence's tokens together."""

        def tensor(values: list[int]) -> Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        kv.reserve(max(max(item.block_table) for item in batch))
        size = kv.block_size
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        logit_rows: list[int] = []
        decodes: list[tuple[int, SequenceSlice]] = []
        prefills: list[PrefillSpan] = []
        for item in batch:
            first, count = len(tokens), len(item.tokens)
            table, stop = item.block_table, item.start + count
            tokens += item.tokens
            positions += range(item.start, stop)
            slots += [table[p // size] * size + p % size for p in range(item.start, stop)]
            logit_rows += range(first + count - item.num_logits, first + count)
            if count == 1:
                decodes.append((first, item))
            else:
                prefills.append(PrefillSpan(first, first + count, item.start, tensor(list(table[: -(-stop // size)]))))
        return cls(
            kv=kv,
            slices=batch,
            input_ids=tensor(tokens)[None],
            position_ids=tensor(positions)[None],
            logit_rows=tensor(logit_rows),
            slots=tensor(slots),
            decodes=[_group(members, size, tensor) for members in _by_length(decodes, size)],
            prefills=prefills,
        )

    @contextmanager
    def active(self) -> Iterator[None]:
        """`PackedStep.current()` in this thread, inside, is this step."""
        _local.step = self
        try:
            yield
        finally:
            _local.step = None

    @staticmethod
    def current() -> PackedStep:
        return _local.step


def _by_length(decodes: list[tuple[int, SequenceSlice]], size: int) -> list[list[tuple[int, SequenceSlice]]]:
    """Groups in which nobody is padded to more than twice its length: one long sequence must not make all others long.

    Inside a group, members are in the order of their rows.
    """
    groups: list[list[tuple[int, SequenceSlice]]] = []
    widest = 0
    for row, item in sorted(decodes, key=lambda decode: decode[1].start):
        if item.start // size >= widest:
            groups.append([])
            widest = max(NARROW, 2 * (item.start // size + 1))
        groups[-1].append((row, item))
    return [sorted(group, key=lambda decode: decode[0]) for group in groups]


def _group(members: list[tuple[int, SequenceSlice]], size: int, tensor: _ToTensor) -> DecodeGroup:
    width = max(item.start for _, item in members) // size + 1
    blocks = [[*item.block_table[: item.start // size + 1]] for _, item in members]
    padded = chain.from_iterable(known + [0] * (width - len(known)) for known in blocks)
    return DecodeGroup(
        tensor([row for row, _ in members]), tensor(list(padded)), tensor([item.start for _, item in members])
    )
