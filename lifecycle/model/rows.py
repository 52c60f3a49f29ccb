"""Documents one after the other in one flat row of tokens: nothing but attention needs to know where each begins.

Every product, norm and loss works on the tokens themselves and a few fillers. Attention works on rectangles; neighbours of similar length share
one, padded to few shapes, and causality keeps the padding out of what comes before it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lifecycle.model import kernels

WASTE = 0.1
"""Most padding in a rectangle, as a part of it, before its sides are rounded up."""

ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Numbers of rows in a rectangle; beyond the last, multiples of it."""

LENGTH_STEP = 32
"""Rows of a rectangle are multiples of this long. Few shapes is what matters: on a CPU oneDNN compiles a kernel for every
shape it meets, which takes as long as thousands of tokens, and keeps only so many of them."""


@dataclass(frozen=True)
class Group:
    """Neighbouring documents that share a rectangle of `rows` x `longest` places."""

    rows: int
    longest: int
    tokens: int
    """Real ones."""
    places: Tensor
    """Where each token stands in the rectangle, row by row: [tokens] int64."""
    holds: Tensor
    """The token of each place, `tokens` where there is none: [rows * longest] int64."""

    def spread(self, x: Tensor) -> Tensor:
        """[tokens, heads, D] to [rows, heads, longest, D], zeros where there is no token."""
        spread = pick(x.flatten(1), self.holds, self.places)
        return spread.view(self.rows, self.longest, *x.shape[1:]).transpose(1, 2)

    def collect(self, x: Tensor) -> Tensor:
        """[rows, heads, longest, D] to [tokens, heads, D]: what `spread` did, undone."""
        return pick(x.transpose(1, 2).reshape(len(self.holds), -1), self.places, self.holds).unflatten(1, (x.shape[1], -1))


@dataclass(frozen=True)
class Rows:
    """Where the documents of a flat row of N tokens lie."""

    positions: Tensor
    """Of each token in its document: [N] int64."""
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, lengths: Tensor, device: torch.device) -> Rows:
        """For documents of these lengths, [documents] int64 on the CPU, in the order of their tokens."""
        places = torch.arange(int(lengths.max()))
        inside = places < lengths[:, None]  # [documents, longest]
        positions = places.expand_as(inside)[inside]
        return cls(positions.to(device), tuple(_group(lengths[first:last], device) for first, last in _cut(lengths.tolist())))

    def attend(self, attention: Callable[[Tensor, Tensor, Tensor], Tensor], q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Every document attends to itself alone: q [N, H, D], k and v [N, K, D] to [N, H, D]."""
        sizes = [group.tokens for group in self.groups]
        found = []
        for group, *parts in zip(self.groups, q.split(sizes), k.split(sizes), v.split(sizes), strict=True):
            found.append(group.collect(attention(*map(group.spread, parts))))
        return torch.cat(found)


def pick(x: Tensor, index: Tensor, back: Tensor) -> Tensor:
    """Rows x[index] of x [n, width], zeros where the index is n; no row is picked twice.

    back: where each row of x went, [n] int64, `len(index)` for one that nobody picked. With it the gradient is a copy as
    well, for which torch would add up.
    """
    return _Pick.apply(x, index, back)


class _Pick(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, back: Tensor) -> Tensor:
        ctx.save_for_backward(back)
        return _rows_or_zeros(x, index)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        (back,) = ctx.saved_tensors
        return _rows_or_zeros(gradient, back), None, None


def _rows_or_zeros(x: Tensor, index: Tensor) -> Tensor:
    if kernels.can_run(x):
        x = x if x.stride(1) == 1 else x.contiguous()
        y = x.new_empty(len(index), x.shape[1])
        kernels.run("pick", y, index, x.data_ptr(), len(index), *x.shape, x.stride(0))
        return y
    return torch.cat((x, x.new_zeros(1, x.shape[1]))).index_select(0, index)


def inverse(index: Tensor, size: int) -> Tensor:
    """Where each number below `size` stands in `index` [n], n if it does not; `size` itself may stand there many times."""
    found = index.new_full((size + 1,), len(index))
    return found.index_copy_(0, index, torch.arange(len(index), device=index.device))[:size]


def _group(lengths: Tensor, device: torch.device) -> Group:
    tokens, rows = int(lengths.sum()), _rounded_rows(len(lengths))
    longest = -(-int(lengths.max()) // LENGTH_STEP) * LENGTH_STEP
    places = (torch.arange(longest) < lengths[:, None]).flatten().nonzero()[:, 0]
    return Group(rows, longest, tokens, places.to(device), inverse(places, rows * longest).to(device))


def _rounded_rows(count: int) -> int:
    return next((rows for rows in ROW_COUNTS if rows >= count), -(-count // ROW_COUNTS[-1]) * ROW_COUNTS[-1])


def _cut(lengths: list[int]) -> list[tuple[int, int]]:
    """First and last (not included) document of each group."""
    found, first, tokens, longest = [], 0, 0, 0
    for number, length in enumerate(lengths):
        if number > first and tokens + length < (1 - WASTE) * (number + 1 - first) * max(longest, length):
            found.append((first, number))
            first, tokens, longest = number, 0, 0
        tokens, longest = tokens + length, max(longest, length)
    return [*found, (first, len(lengths))]
