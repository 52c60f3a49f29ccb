"""A `ModelBackend` for CPUs: one call into the kernels per step, over the same paged blocks that the scheduler hands out."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serving.application.ports import LIKELIEST, Chosen, SequenceSlice
from serving.infrastructure.native.description import RotaryTable, describe
from serving.infrastructure.native.library import Batch, Level, Scratch, best_level, load
from serving.infrastructure.native.weights import PANEL, PackedWeights, padded
from serving.infrastructure.pool_size import MEBIBYTE, blocks_that_fit

BLOCK = 32
"""Tokens in a block: the kernels know no other size."""
FEWEST_ROWS = 64
PHASES = ("norm", "qkv", "rope", "attention", "out", "gate_up", "down", "head")
MOST_THREADS = 64
ALONE = 8
"""Rows that each thread normalises for itself when there are no more."""
TEAM_BYTES = 8192
"""Of the structure that threads meet in; room for `MOST_THREADS`."""


class NativeBackend:
    """Owns packed weights, the KV pool and scratch space. Call it from one thread.

    config: of transformers; weights: by their names in a checkpoint; `int8` rounds those of the layers (W8A8),
    `int8_cache` keys and values. Raises
    UnsupportedArchitecture for a model that the kernels do not compute, NativeUnavailable where they cannot be built,
    LifecycleError for weights that are not numbers.
    """

    shares_prefixes = True
    can_rewind = True
    goes_ahead = True
    takes_adapters = False
    block_size = BLOCK

    def __init__(
        self,
        config: Any,
        weights: Mapping[str, Tensor],
        *,
        num_blocks: int | None = None,
        kv_bytes: int = 512 * MEBIBYTE,
        threads: int | None = None,
        level: Level | None = None,
        int8: bool = False,
        int8_cache: bool = False,
    ) -> None:
        self._int8, self._int8_cache = int8, int8_cache
        self._description = describe(config)
        self.vocab_size = self._description.vocabulary
        level = level or best_level()
        self.level = level.name
        self._library = load(level)
        self._rotary = RotaryTable(config)
        block = self._block_bytes()
        self.num_blocks = num_blocks or blocks_that_fit(kv_bytes, self._description.layers * sum(block))
        # [layers, keys and values, blocks]: zeros that take no memory before they are written to.
        self._pool = torch.frombuffer(
            mmap.mmap(-1, self._description.layers * sum(block) * self.num_blocks), dtype=torch.uint8
        )
        self._load(weights)
        self._seconds = np.zeros(len(PHASES))
        self.threads = min(threads or torch.get_num_threads(), MOST_THREADS)
        self._batch = Batch(threads=self.threads)
        self._scratch = Scratch()
        self._rows = self._wanted = 0
        self._make_room(FEWEST_ROWS, FEWEST_ROWS)

    def _load(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = PackedWeights(
            self._library, self._description, weights, int8=self._int8, int8_cache=self._int8_cache
        )
        keys, values = self._block_bytes()
        for index, layer in enumerate(self._weights.layers):
            layer.keys = self._pool.data_ptr() + index * (keys + values) * self.num_blocks
            layer.values = layer.keys + keys * self.num_blocks

    def _block_bytes(self) -> tuple[int, int]:
        """Of the keys and of the values of a block in one layer; see cache.h."""
        dim, heads = self._description.head_dim, self._description.kv_heads
        key, value = (dim + 8, dim + 4) if self._int8_cache else (2 * dim, 2 * dim)
        return BLOCK * heads * key, BLOCK * heads * value

    def execute(self, batch: Sequence[SequenceSlice]) -> Tensor | Chosen:
        """Logits [n, vocab_size] fp32; `Chosen` when all tokens are plain, or some are drawn."""
        passes = 1 + batch[0].ahead
        first_rows = [0, *accumulate(len(slice.tokens) for slice in batch)]
        wanted = [
            row
            for last, slice in zip(first_rows[1:], batch, strict=True)
            for row in range(last - slice.num_logits, last)
        ]
        self._make_room(first_rows[-1], passes * len(wanted))
        step = self._batch
        step.tokens, step.sequences, step.wanted, step.passes = first_rows[-1], len(batch), len(wanted), passes
        numbers = self._point_to(
            token=chain.from_iterable(slice.tokens for slice in batch),
            first_row=first_rows,
            start=[slice.start for slice in batch],
            tables=chain.from_iterable(slice.block_table for slice in batch),
            table_at=accumulate((len(slice.block_table) for slice in batch), initial=0),
            wanted_row=wanted,
        )
        rope = self._rotary.up_to(max(slice.start + len(slice.tokens) + slice.ahead for slice in batch))
        step.rope = rope.data_ptr()
        all_plain = all(slice.plain or not slice.num_logits for slice in batch)
        draws = self._draw(batch)
        logits = None
        if draws or not all_plain:
            logits = torch.empty(len(wanted), self._weights.model.head.outputs, dtype=torch.float32)
        step.logits = None if logits is None else logits.data_ptr()
        self._library.step(self._weights.model, self._scratch, step)
        del numbers  # until here the kernels read it
        if not (draws or all_plain):
            return logits[:, : self.vocab_size]
        tokens, scores = (
            found[: passes * len(wanted)].reshape(passes, -1).T.ravel().tolist()
            for found in (self._best_at, self._best)
        )
        if all_plain:
            return Chosen(tokens, scores)
        drawn = [token if hot else None for token, hot in zip(tokens, draws[0].tolist(), strict=True)]
        return Chosen(drawn, scores, logits[:, : self.vocab_size])

    def _draw(self, batch: Sequence[SequenceSlice]) -> list[np.ndarray]:
        """Let the kernels draw plain tokens; temperatures (0: not drawn), seeds and positions of all rows that are asked for, which
        they read, and nothing where none is drawn."""
        step = self._batch
        if not any(slice.plain and slice.plain.temperature for slice in batch):
            step.temperature = step.seed = step.position = None
            return []
        rows = [(slice.plain or LIKELIEST, further) for slice in batch for further in range(slice.num_logits)]
        numbers = [
            np.array([plain.temperature for plain, _ in rows], np.float32),
            np.array([plain.seed % 2**64 for plain, _ in rows], np.uint64),
            np.array([plain.position + further for plain, further in rows], np.int64),
        ]
        step.temperature, step.seed, step.position = (array.ctypes.data for array in numbers)
        return numbers

    def _point_to(self, **lists: Iterable[int]) -> array:
        """Let fields of the batch point to these numbers, all in one piece of memory: conversions are dear."""
        numbers, offsets = [], []
        for values in lists.values():
            offsets.append(len(numbers))
            numbers.extend(values)
        packed = array("i", numbers)
        address = packed.buffer_info()[0]
        for name, offset in zip(lists, offsets, strict=True):
            setattr(self._batch, name, address + offset * packed.itemsize)
        return packed

    def seconds(self) -> Mapping[str, float]:
        """Of `PHASES`: what each costs, waiting for the slowest thread included."""
        return dict(zip(PHASES, self._seconds.tolist(), strict=True))

    def release(self, sequence_id: str) -> None:
        """Nothing to do: all that belongs to a sequence is in its blocks."""

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Pack other parameters. Raises UnsupportedArchitecture when they are of another model; the old ones stay then."""
        self._load(state_dict)

    def _make_room(self, rows: int, wanted: int) -> None:
        """Scratch space for a step of so many rows and logits. It never shrinks: steps of two kinds would take turns at it."""
        if rows <= self._rows and wanted <= self._wanted:
            return
        rows, wanted = (padded(most, FEWEST_ROWS) for most in (max(rows, self._rows), max(wanted, self._wanted)))
        d, layer, model = self._description, self._weights.layers[0], self._weights.model
        attended, gated = padded(d.heads * d.head_dim), layer.gate_up.outputs // 2
        copies = max(rows, ALONE * self.threads)
        shapes = {
            "team": ((TEAM_BYTES,), torch.uint8),
            "residual": ((rows, model.width), torch.float32),
            "normed": ((copies, model.width), torch.bfloat16),
            "qkv": ((rows, layer.qkv.outputs), torch.bfloat16),
            "attended": ((rows, attended), torch.bfloat16),
            "gated": ((rows, gated), torch.bfloat16),
            "rounded": ((copies, max(model.width, attended, gated)), torch.uint8),
            "rounded_scales": ((copies,), torch.float32),
            "thread_best": ((self.threads, wanted), torch.float32),
            "thread_best_at": ((self.threads, wanted), torch.int32),
            "row_bounds": ((self.threads, wanted, 2), torch.float32),
            "upper": ((model.head.outputs // PANEL, wanted), torch.float32),
            "floor": ((self.threads, wanted), torch.float32),
            "best": ((wanted,), torch.float32),
            "best_at": ((wanted,), torch.int32),
        }
        # Zeros: what is added to fill a panel is never written, and a weight of zero does not cancel a NaN.
        self._buffers = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in shapes.items()}
        self._rows, self._wanted = rows, wanted  # only now: where memory runs out there is room for as many as before
        for name, _ in Scratch._fields_[:-1]:
            setattr(self._scratch, name, self._buffers[name].data_ptr())
        self._scratch.seconds = self._seconds.ctypes.data
        self._best, self._best_at = (self._buffers[name].numpy() for name in ("best", "best_at"))
        self._batch.best, self._batch.best_at = (self._buffers[name].data_ptr() for name in ("best", "best_at"))
