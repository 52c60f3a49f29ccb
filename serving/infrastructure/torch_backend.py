"""Any Hugging Face causal LM whose attention can be plugged, as a `ModelBackend`: one packed forward per step over paged KV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import get_layer_types_and_kwargs

from serving.application.ports import SequenceSlice
from serving.domain.request import Prompt
from serving.infrastructure import attention
from serving.infrastructure.adapted_model import AdaptedModel
from serving.infrastructure.causal_lm import CausalLM
from serving.infrastructure.conformance import UnsupportedArchitecture, blocks_needed, disagreement
from serving.infrastructure.lora import LoraWeights
from serving.infrastructure.packed_step import PackedStep
from serving.infrastructure.paged_kv import PagedKV
from serving.infrastructure.pool_size import MEBIBYTE, blocks_that_fit
from serving.infrastructure.vision.conformance import blocks_with_picture, picture_disagreement
from serving.infrastructure.vision.packing import Sight, deep


class PackedTorchBackend:
    """Owns a transformers model and the KV tensors. Call it from one thread.

    The model is checked once, here, one that sees with the picture in `example`; it keeps at most `picture_bytes` of what
    it has seen. Raises UnsupportedArchitecture when packed sequences get other logits than each alone; the model is as it
    was then.
    """

    shares_prefixes = True
    can_rewind = True
    goes_ahead = False
    takes_adapters = True

    def __init__(
        self,
        model: Any,
        *,
        block_size: int = 16,
        num_blocks: int | None = None,
        kv_bytes: int = 512 * MEBIBYTE,
        example: Prompt | None = None,
        picture_bytes: int = 64 * MEBIBYTE,
    ) -> None:
        attention.register()
        self._lm = CausalLM(model)
        self.model = self._lm.model
        self._adapted = AdaptedModel(self.model)
        self.vocab_size = self._lm.vocab_size
        self.block_size = block_size
        self._sight = None if example is None else Sight(model, picture_bytes)
        self._kv = PagedKV(blocks_needed(block_size), block_size)
        with self._lm.attention(attention.NAME):
            self._check(example)
        self._lm.set_attention(attention.NAME)
        fitting = blocks_that_fit(kv_bytes, self._kv.bytes_per_block)
        self.num_blocks = fitting if num_blocks is None else num_blocks
        self._kv = PagedKV(self.num_blocks, block_size)

    def execute(self, batch: Sequence[SequenceSlice]) -> Tensor:
        """Logits [sum of num_logits, vocab_size]."""
        step = PackedStep.pack(batch, self._kv, self._lm.device)
        owners = [item.adapter for item in batch for _ in item.tokens]
        wanted = [item.adapter for item in batch for _ in range(item.num_logits)]
        inputs = {"input_ids": step.input_ids, "position_ids": step.position_ids}
        layers: dict[str, Any] = {}
        if self._sight is not None:
            inputs, layers = self._sight.inputs(step)
        with step.active(), self._adapted.by_rows(owners, wanted), deep(self.model, layers):
            return self._lm.logits(step.logit_rows, **inputs, use_cache=False)[0]

    def seconds(self) -> Mapping[str, float]:
        """What pictures took; torch tells no more."""
        return {} if self._sight is None else {"pictures": self._sight.embeddings.seconds}

    def release(self, sequence_id: str) -> None:
        """Nothing to do: all that belongs to a sequence is in its blocks."""

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Copy new parameters in. Raises ValueError when names are unknown or missing (tied ones may be missing)."""
        self._lm.update_weights(state_dict)
        if self._sight is not None:
            self._sight.forget()

    def add_adapter(self, adapter_id: str, weights: LoraWeights) -> None:
        """Checked like the model, on blocks of its own: a sequence with the adapter beside one without.

        Raises LifecycleError when it does not fit, or a layer does not see a step's tokens as they are packed.
        """
        if self._sight is not None:
            self._sight.refuse(weights.layers)
        self._adapted.add(adapter_id, weights)
        serving, self._kv = self._kv, PagedKV(blocks_needed(self.block_size), self.block_size)
        try:
            self._adapted.check(self._lm, self.execute, self.block_size, adapter_id)
        except BaseException:
            self._adapted.remove(adapter_id)
            raise
        finally:
            self._kv = serving

    def remove_adapter(self, adapter_id: str) -> None:
        """Forget an adapter that no slice will name any more."""
        self._adapted.remove(adapter_id)

    def _check(self, example: Prompt | None) -> None:
        name = self._lm.name
        try:
            error = disagreement(self._lm, self.execute, self.block_size)
            if example is not None and error <= 1:
                self._kv = PagedKV(blocks_with_picture(example, self.block_size), self.block_size)
                error = picture_disagreement(self._lm, self.execute, self.block_size, example)
        except UnsupportedArchitecture as failure:
            raise UnsupportedArchitecture(f"{name}: {failure}") from None
        except Exception as failure:  # whatever an architecture does to input that it does not expect
            raise UnsupportedArchitecture(f"{name} fails when sequences are packed: {failure!r}") from failure
        if not self._kv.layers:
            raise UnsupportedArchitecture(f"{name} does its attention without AttentionInterface")
        if error > 1:
            raise UnsupportedArchitecture(
                f"{name} computes something else when sequences are packed (error {error:.1e} of what its dtype forgives)"
            )
        # The check's sequences are shorter than real windows, so whether windows arrive is asked of the calls.
        _, declared = get_layer_types_and_kwargs(self._lm.config)
        for module, layer in self._kv.layers.items():
            index = getattr(module, "layer_idx", None)
            wanted = declared[index].get("sliding_window") if index is not None and index < len(declared) else None
            if wanted not in (None, layer.window, layer.chunk):
                raise UnsupportedArchitecture(
                    f"{name} has a window of {wanted} positions that its attention is not told"
                )
