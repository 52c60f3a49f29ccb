"""A transformers causal LM as both backends drive it: forward with what it understands, weights in, eager logits to compare with."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

CACHES = frozenset({"past_key_values", "cache_params"})


class CausalLM:
    """Owns the model, in evaluation mode and without gradients."""

    def __init__(self, model: Any) -> None:
        self.model = model.eval().requires_grad_(False)
        self.name = type(model).__name__
        self.config = model.config.get_text_config(decoder=True)
        self.vocab_size: int = self.config.vocab_size
        self.device: torch.device = model.device
        self.arguments = frozenset(inspect.signature(model.forward).parameters)

    @torch.inference_mode()
    def logits(self, rows: Tensor | None = None, **inputs: Any) -> Tensor:
        """[batch, tokens, vocab], or only the token positions in `rows`. Inputs that the model does not take are left out."""
        known = {name: value for name, value in inputs.items() if name in self.arguments}
        if rows is None:
            return self.model(**known).logits
        if "logits_to_keep" in self.arguments:
            return self.model(**known, logits_to_keep=rows).logits
        return self.model(**known).logits[:, rows]

    def reference(self, tokens: Sequence[int], **media: Tensor) -> Tensor:
        """[tokens, vocab]: what follows each of `tokens` by transformers' own eager attention, without any cache.

        `media` are further arguments of the model's forward.
        """
        with self.attention("eager"):
            return self.logits(input_ids=self.ids([tokens]), **media, use_cache=False)[0]

    @torch.inference_mode()
    def own_cache(self) -> tuple[str, Any] | None:
        """What forward calls its cache, and the one that it makes by itself; None when it makes none."""
        for name in CACHES & self.arguments:
            cache = getattr(self.model(input_ids=self.ids([[0, 0]]), use_cache=True), name, None)
            return None if cache is None else (name, cache)
        return None

    @contextmanager
    def attention(self, name: str) -> Iterator[None]:
        """Another attention implementation for a while."""
        before = self.config._attn_implementation
        self.set_attention(name)
        try:
            yield
        finally:
            self.set_attention(before)

    def set_attention(self, name: str) -> None:
        """Of the language model; a vision tower beside it keeps its own."""
        part = next((key for key in self.model.config.sub_configs if getattr(self.model.config, key) is self.config), None)
        self.model.set_attn_implementation(name if part is None else {part: name})

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Copy new parameters in. Raises ValueError when names are unknown or missing (tied ones may be missing).

        A model in int8 rounds what comes in floating point, and needs no scales with it.
        """
        own = self.model.state_dict()
        missing = own.keys() - state_dict.keys() - set(getattr(self.model, "all_tied_weights_keys", None) or ())
        missing -= {f"{name}_scale" for name, weight in state_dict.items() if weight.is_floating_point()}
        if unknown := state_dict.keys() - own.keys() or missing:
            raise ValueError(f"these weights are of another model: {sorted(unknown)[:3]} do not match")
        self.model.load_state_dict(state_dict, strict=False)

    def ids(self, values: Sequence[Any]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=self.device)
