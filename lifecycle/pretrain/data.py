"""From documents to tokens on disk, once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from datasets import Dataset
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.training.batches import Documents

DOCUMENTS_AT_ONCE = 4096


def tokenize(dataset: Dataset, tokenizer: PreTrainedTokenizerFast, context_length: int, directory: Path) -> Documents:
    """Tokenise the column "text" into `directory`, or open what an earlier call left there.

    A column "given", where there is one, names ranges of characters, [start, end] each, that are read and not predicted.
    Each document stands between two end-of-text tokens; what is longer than the context is cut into pieces that
    overlap by one token, so that every token is predicted once. Text is only text: a control token spelled out in a
    document does not become that token.
    """
    tokens_file, learnt_file, offsets_file = (directory / name for name in ("tokens.bin", "learnt.bin", "offsets.npy"))
    dtype = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    if not offsets_file.exists():
        if "text" not in dataset.column_names:
            raise LifecycleError(
                f'the data has no column "text", only {", ".join(dataset.column_names)}: rename the column'
            )
        directory.mkdir(parents=True, exist_ok=True)
        _write(dataset, tokenizer, dtype, tokens_file, learnt_file, offsets_file)
    offsets = np.load(offsets_file)
    if len(offsets) < 2:
        raise LifecycleError("there is no text to train on: every document is empty")
    tokens, (starts, ends) = np.memmap(tokens_file, dtype=dtype, mode="r"), _pieces(offsets, context_length)
    if "given" not in dataset.column_names:
        return Documents(tokens, starts, ends)
    documents = Documents(tokens, starts, ends, np.memmap(learnt_file, dtype=bool, mode="r"))
    some = documents.targets > 0
    if not some.any():
        raise LifecycleError('there is nothing to learn: all text is "given"')
    return Documents(tokens, starts[some], ends[some], documents.learnt)


def _write(
    dataset: Dataset, tokenizer: PreTrainedTokenizerFast, dtype: type, tokens_file: Path, learnt_file: Path, offsets_file: Path
) -> None:
    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # a copy: the setting below must not leak
    encoder.encode_special_tokens = True
    end = tokenizer.eos_token_id
    lengths, some_given = [0], "given" in dataset.column_names
    encode = encoder.encode_batch if some_given else encoder.encode_batch_fast  # the fast one forgets where a token stood
    with open(tokens_file, "wb") as file, open(learnt_file, "wb") if some_given else nullcontext() as mask:
        for start in tqdm(range(0, len(dataset), DOCUMENTS_AT_ONCE), desc="tokenise", leave=False, disable=None):
            rows = dataset[start : start + DOCUMENTS_AT_ONCE]
            some = [number for number, text in enumerate(rows["text"]) if text]
            for number, encoding in zip(some, encode([rows["text"][number] for number in some], add_special_tokens=False), strict=True):
                ids = np.array([end, *encoding.ids, end], dtype=dtype)
                file.write(ids.tobytes())
                if mask is not None:
                    mask.write(_learnt(encoding.offsets, rows["given"][number] or ()).tobytes())
                lengths.append(len(ids))
    partial = offsets_file.with_suffix(".partial.npy")
    np.save(partial, np.cumsum(lengths))
    os.replace(partial, offsets_file)  # last, and whole or not at all: its presence says that the tokens are complete


def _learnt(offsets: list[tuple[int, int]], given: Sequence[Sequence[int]]) -> np.ndarray:
    """True for each token that begins outside of what is given, and for the end of text on either side."""
    starts = np.array([start for start, _ in offsets])
    learnt = np.ones(len(starts) + 2, dtype=bool)
    for first, last in given:
        learnt[1:-1] &= (starts < first) | (starts >= last)
    return learnt


def _pieces(offsets: np.ndarray, context_length: int) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(offsets)
    counts = -(-(lengths - 1) // context_length)  # pieces per document
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)  # 0, 1, .. in each document
    starts = np.repeat(offsets[:-1], counts) + within * context_length
    return starts, np.minimum(starts + context_length + 1, np.repeat(offsets[1:], counts))
