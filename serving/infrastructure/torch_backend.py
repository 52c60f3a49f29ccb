"""Any Hugging Face causal LM as a `ModelBackend`: one packed forward per step over paged keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from serving.application.ports import SequenceSlice
from serving.infrastructure import attention
from serving.infrastructure.attention import PackedStep, PagedKV


class UnsupportedArchitecture(Exception):
    """The model does not route its attention through transformers' AttentionInterface."""


class PackedTorchBackend:
    """Owns a transformers model and the KV tensors. Call it from one thread.

    The model is checked once at load: two ragged sequences, packed and chunked, must give the logits that each gives alone.
    Raises UnsupportedArchitecture when they do not. Windows other than `sliding_window` (Llama 4's attention chunks) are
    taken for full attention, which differs only beyond the chunk's length.
    """

    def __init__(
        self,
        model: Any,
        *,
        block_size: int = 16,
        num_blocks: int | None = None,
        kv_bytes: int = 512 * 2**20,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.vocab_size: int = model.config.get_text_config().vocab_size
        self.block_size = block_size
        self.shares_prefixes = True
        self._device = model.device
        self._trims_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        bytes_per_block = self._check()
        self.num_blocks = num_blocks if num_blocks is not None else max(1, kv_bytes // bytes_per_block)
        self._kv = PagedKV(self.num_blocks, block_size)

    def execute(self, batch: Sequence[SequenceSlice]) -> Tensor:
        """Logits [slices that need them, vocab_size]."""
        return self._forward(batch, self._kv)

    def release(self, sequence_id: str) -> None:
        """Nothing to do: all that belongs to a sequence is in its blocks."""

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Copy new parameters in. Raises ValueError when names are unknown or missing (tied ones may be missing)."""
        own = self.model.state_dict()
        missing = own.keys() - state_dict.keys() - set(getattr(self.model, "all_tied_weights_keys", None) or ())
        if unknown := state_dict.keys() - own.keys() or missing:
            raise ValueError(f"these weights are of another model: {sorted(unknown)[:3]} do not match")
        self.model.load_state_dict(state_dict, strict=False)

    @torch.inference_mode()
    def _forward(self, batch: Sequence[SequenceSlice], kv: PagedKV) -> Tensor:
        step = PackedStep.pack(batch, kv, self._device)
        trim = {"logits_to_keep": step.logit_rows} if self._trims_logits else {}
        with step.active():
            logits = self.model(
                input_ids=step.input_ids, position_ids=step.position_ids, use_cache=False, **trim
            ).logits[0]
        return logits if trim else logits[step.logit_rows]

    def _check(self) -> int:
        """Compare packed with separate logits on a small pool; returns the bytes that one block takes over all layers."""
        name = type(self.model).__name__
        advice = "serve it with another backend, or convert it to an architecture that uses AttentionInterface"
        sequences = [
            [(3 * i + 1) % self.vocab_size for i in range(7)],
            [(5 * i + 2) % self.vocab_size for i in range(4)],
        ]
        attention.register()
        self.model.set_attn_implementation("eager")
        with torch.inference_mode():
            alone = torch.stack(
                [self.model(torch.tensor([s], device=self._device), use_cache=False).logits[0, -1] for s in sequences]
            )
        self.model.set_attn_implementation(attention.NAME)
        per_sequence = -(-7 // self.block_size)
        kv = PagedKV(2 * per_sequence, self.block_size)
        tables = [list(range(per_sequence)), list(range(per_sequence, 2 * per_sequence))]

        def part(which: int, start: int, stop: int) -> SequenceSlice:
            tokens = sequences[which][start:stop]
            return SequenceSlice(str(which), tokens, start, tables[which], stop == len(sequences[which]))

        # Chunks and a decode beside a prompt: everything that an architecture might get wrong.
        self._forward([part(0, 0, 3)], kv)
        self._forward([part(0, 3, 6), part(1, 0, 2)], kv)
        packed = self._forward([part(0, 6, 7), part(1, 2, 4)], kv)
        if not kv.layers:
            raise UnsupportedArchitecture(f"{name} does its attention without AttentionInterface: {advice}")
        scale = alone.float().abs().max().item() + 1e-6
        error = (packed.float() - alone.float()).abs().max().item() / scale
        if not error < (0.1 if packed.dtype == torch.bfloat16 else 1e-3):
            raise UnsupportedArchitecture(
                f"{name} computes something else when sequences are packed (relative error {error:.1e}): {advice}"
            )
        return kv.bytes_per_block
