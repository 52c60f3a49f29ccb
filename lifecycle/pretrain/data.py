"""From documents to batches: tokenise once, then an order of batches that depends on nothing but the seed.

Every row of a batch is one whole document (or a piece of one that is longer than the context): a fact and the
question about it are never cut apart. Documents of similar length share a batch, so little is padding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.model.decoder import IGNORE
from lifecycle.pretrain.config import PretrainConfig

DOCUMENTS_AT_ONCE = 4096


@dataclass(frozen=True)
class Documents:
    """Tokenised documents on disk. Piece i is `tokens[starts[i] : ends[i]]`: 2 to context_length + 1 tokens."""

    tokens: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    @cached_property
    def lengths(self) -> np.ndarray:
        """Positions to predict in each piece: one fewer than its tokens."""
        return self.ends - self.starts - 1


@dataclass(frozen=True)
class Batch:
    """Documents as rows, and what follows each token: tokens and targets [B, T] int64, `IGNORE` in padding."""

    tokens: Tensor
    targets: Tensor
    count: int
    """Targets that count."""


def tokenize(dataset: Dataset, tokenizer: PreTrainedTokenizerFast, context_length: int, directory: Path) -> Documents:
    """Tokenise the column "text" into `directory`, or open what an earlier call left there.

    Each document stands between two end-of-text tokens; what is longer than the context is cut into pieces that
    overlap by one token, so that every token is predicted once. Text is only text: a control token spelled out in a
    document does not become that token.
    """
    tokens_file, offsets_file = directory / "tokens.bin", directory / "offsets.npy"
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    if not offsets_file.exists():
        if "text" not in dataset.column_names:
            raise LifecycleError(
                f'the data has no column "text", only {", ".join(dataset.column_names)}: rename the column'
            )
        directory.mkdir(parents=True, exist_ok=True)
        _write(dataset, tokenizer, dtype, tokens_file, offsets_file)
    offsets = np.load(offsets_file)
    if len(offsets) < 2:
        raise LifecycleError("there is no text to train on: every document is empty")
    starts, ends = _pieces(offsets, context_length)
    return Documents(np.memmap(tokens_file, dtype=dtype, mode="r"), starts, ends)


def _write(
    dataset: Dataset, tokenizer: PreTrainedTokenizerFast, dtype: type, tokens_file: Path, offsets_file: Path
) -> None:
    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # a copy: the setting below must not leak
    encoder.encode_special_tokens = True
    end = tokenizer.eos_token_id
    lengths = [0]
    with open(tokens_file, "wb") as file:
        for start in tqdm(range(0, len(dataset), DOCUMENTS_AT_ONCE), desc="tokenise", leave=False, disable=None):
            texts = [text for text in dataset[start : start + DOCUMENTS_AT_ONCE]["text"] if text]
            for encoding in encoder.encode_batch_fast(texts, add_special_tokens=False):
                ids = np.array([end, *encoding.ids, end], dtype=dtype)
                file.write(ids.tobytes())
                lengths.append(len(ids))
    partial = offsets_file.with_suffix(".partial.npy")
    np.save(partial, np.cumsum(lengths))
    os.replace(partial, offsets_file)  # last, and whole or not at all: its presence says that the tokens are complete


def _pieces(offsets: np.ndarray, context_length: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(offsets)
    counts = -(-(lengths - 1) // context_length)  # pieces per document
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, .. in each document
    starts = np.repeat(offsets[:-1], counts) + within * context_length
    return starts, np.minimum(starts + context_length + 1, np.repeat(offsets[1:], counts))


def plan_epoch(lengths: np.ndarray, config: PretrainConfig, epoch: int) -> list[np.ndarray]:
    """The batches of one epoch, as indices of pieces: a function of the lengths, the seed and the epoch alone.

    Windows of about `bucket_batches` batches are taken in the data's order (first epoch of a curriculum) or in
    random order; within a window pieces are sorted by length, cut into batches, and the batches shuffled.
    """
    random = np.random.default_rng((config.seed, epoch))
    in_order = config.curriculum and epoch == 0
    order = np.arange(len(lengths)) if in_order else random.permutation(len(lengths))
    capacity = config.batch_tokens // config.grad_accumulation
    window = max(1, int(config.bucket_batches * capacity / lengths.mean()))
    plan: list[np.ndarray] = []
    left = order[:0]  # what did not fill a batch waits for the next window
    for start in range(0, len(order), window):
        members = random.permutation(np.concatenate((left, order[start : start + window])))
        members = members[np.argsort(lengths[members], kind="stable")]
        batches = _cut(members, lengths, capacity)
        left = batches.pop() if start + window < len(order) else order[:0]
        plan += [batches[index] for index in random.permutation(len(batches))]
    return plan


def _cut(members: np.ndarray, lengths: np.ndarray, capacity: int) -> list[np.ndarray]:
    """Runs of length-sorted pieces with rows x longest <= capacity."""
    batches, first = [], 0
    for index in range(len(members)):
        if (index + 1 - first) * lengths[members[index]] > capacity:
            batches.append(members[first:index])
            first = index
    return [*batches, members[first:]]


def collate(documents: Documents, members: np.ndarray) -> Batch:
    """Pieces as rows, padded at the end to the longest."""
    lengths = documents.lengths[members]
    tokens = np.zeros((len(members), lengths.max()), dtype=np.int64)
    targets = np.full_like(tokens, IGNORE)
    for row, (piece, length) in enumerate(zip(members, lengths, strict=True)):
        ids = documents.tokens[documents.starts[piece] : documents.ends[piece]]
        tokens[row, :length], targets[row, :length] = ids[:-1], ids[1:]
    return Batch(torch.from_numpy(tokens), torch.from_numpy(targets), int(lengths.sum()))


@dataclass(frozen=True)
class Position:
    """How much of the data has been used: `batch` batches of epoch `epoch`, counted from 0."""

    epoch: int = 0
    batch: int = 0


def batches(documents: Documents, config: PretrainConfig, position: Position) -> Iterator[tuple[Batch, Position]]:
    """Batches without end from `position` on, each with the position after it."""
    epoch, start = position.epoch, position.batch
    while True:
        plan = plan_epoch(documents.lengths, config, epoch)
        for index in range(start, len(plan)):
            yield collate(documents, plan[index]), Position(epoch, index + 1)
        epoch, start = epoch + 1, 0
