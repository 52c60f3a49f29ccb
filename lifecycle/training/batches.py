"""From rows of tokens to batches, in an order that depends on nothing but the seed.

A batch is whole documents or conversations (or pieces of those that are longer than the context), one after the other: a
fact and the question about it are never cut apart, and nothing is padding. Those of similar length share a batch, which
attention likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from lifecycle.model.decoder import IGNORE


@dataclass(frozen=True)
class Documents:
    """Tokens one after the other, often on disk. Piece i is `tokens[starts[i] : ends[i]]`: 2 to context_length + 1 tokens."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    learnt: np.ndarray | None = None
    """True for each token that is to be predicted; None: all of them."""

    @cached_property
    def lengths(self) -> np.ndarray:
        """Positions in each piece that something follows: one fewer than its tokens."""
        return self.ends - self.starts - 1

    @cached_property
    def targets(self) -> np.ndarray:
        """How many tokens of each piece are to be predicted."""
        if self.learnt is None:
            return self.lengths
        before = np.concatenate(([0], np.cumsum(self.learnt)))
        return before[self.ends] - before[self.starts + 1]  # nothing comes before a piece's first token


@dataclass(frozen=True)
class Batching:
    """How pieces become batches."""

    seed: int
    """Decides the order."""
    capacity: int
    """Most tokens in a batch."""
    window: int
    """Batches' worth of pieces that are shuffled and sorted by length together."""
    in_order: bool = False
    """Take the windows of the first epoch in the data's own order."""


@dataclass(frozen=True)
class Batch:
    """Pieces one after the other, and what follows each token: tokens and targets [N] int64, `IGNORE` where it is not learnt."""

    tokens: Tensor
    targets: Tensor
    lengths: Tensor
    """Tokens of each piece: [pieces] int64."""
    count: int
    """Targets that count."""

    def part(self, index: int, parts: int) -> Batch:
        """Part `index` of `parts`: whole pieces in their order, about as many tokens in each part.

        A part that gets none is the first piece with nothing to be learnt, so that all parts take the same steps.
        """
        ends = self.lengths.cumsum(0)
        owner = (2 * ends - self.lengths) * parts // (2 * ends[-1])  # where a piece's middle falls
        members = owner == index
        learnt = bool(members.any())
        if not learnt:
            members[0] = True
        inside = members.repeat_interleave(self.lengths)  # [N]
        targets = self.targets[inside] if learnt else torch.full((int(self.lengths[0]),), IGNORE)
        return Batch(self.tokens[inside], targets, self.lengths[members], int((targets != IGNORE).sum()))


@dataclass(frozen=True)
class Position:
    """How much of the data has been used: `batch` batches of epoch `epoch`, counted from 0."""

    epoch: int = 0
    batch: int = 0


def plan_epoch(lengths: np.ndarray, batching: Batching, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as indices of pieces: a function of the lengths, the seed and the epoch alone.

    Windows are taken in the data's order (the first epoch, if asked for) or in random order; within a window pieces are
    sorted by length, cut into batches, and the batches shuffled.
    """
    random = np.random.default_rng((batching.seed, epoch))
    order = np.arange(len(lengths)) if batching.in_order and epoch == 0 else random.permutation(len(lengths))
    window = max(1, int(batching.window * batching.capacity / lengths.mean()))
    plan: list[np.ndarray] = []
    left = order[:0]  # what did not fill a batch waits for the next window
    for start in range(0, len(order), window):
        members = random.permutation(np.concatenate((left, order[start : start + window])))
        members = members[np.argsort(lengths[members], kind="stable")]
        found = _cut(members, lengths, batching.capacity)
        left = found.pop() if start + window < len(order) else order[:0]
        plan += [found[index] for index in random.permutation(len(found))]
    return plan


def _cut(members: np.ndarray, lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Runs of pieces with at most `capacity` tokens."""
    found, first, tokens = [], 0, 0
    for index, length in enumerate(lengths[members].tolist()):
        if tokens + length > capacity and index > first:
            found.append(members[first:index])
            first, tokens = index, 0
        tokens += length
    return [*found, members[first:]]


def collate(documents: Documents, members: np.ndarray) -> Batch:
    """Pieces one after the other."""
    places = [slice(documents.starts[piece], documents.ends[piece]) for piece in members]
    pieces = [documents.tokens[place].astype(np.int64) for place in places]
    tokens = np.concatenate([piece[:-1] for piece in pieces])
    targets = np.concatenate([piece[1:] for piece in pieces])
    if documents.learnt is not None:
        targets[~np.concatenate([documents.learnt[place][1:] for place in places])] = IGNORE
    counted = int(documents.targets[members].sum())
    lengths = torch.from_numpy(documents.lengths[members].astype(np.int64))
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), lengths, counted)


def batches(documents: Documents, batching: Batching, position: Position) -> Iterator[tuple[Batch, Position]]:
    """Batches without end from `position` on, each with the position after it."""
    epoch, start = position.epoch, position.batch
    while True:
        plan = plan_epoch(documents.lengths, batching, epoch)
        for index in range(start, len(plan)):
            yield collate(documents, plan[index]), Position(epoch, index + 1)
        epoch, start = epoch + 1, 0
