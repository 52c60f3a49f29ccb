"""What the kernels have to know of a model, read from its transformers config; who is not of the family is told why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from serving.infrastructure.conformance import UnsupportedArchitecture

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "smollm3", "granite")
"""Values of `model_type`: RMSNorm before attention and SwiGLU, rotary positions, grouped keys. Each is tested."""
MOST_HEAD_DIM = 256
TURNS_WITH_LENGTH = ("dynamic", "longrope")
"""Rotary scalings whose angles depend on how long a sequence gets: cached keys would have to be turned again."""


@dataclass(frozen=True, slots=True)
class Description:
    """Sizes and constants of a decoder of `FAMILIES`."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    epsilon: float
    tied: bool
    windows: tuple[int, ...]
    """Of each layer: how many positions a token sees, itself among them; 0: all."""
    rotates: tuple[bool, ...]
    """Of each layer: whether it has rotary positions."""
    embedding_scale: float
    residual_scale: float
    attention_scale: float
    logit_scale: float


def describe(config: Any) -> Description:
    """From a transformers config. Raises UnsupportedArchitecture for what the kernels do not compute."""
    if config.model_type not in FAMILIES:
        raise UnsupportedArchitecture(f'"{config.model_type}" is not one of {", ".join(FAMILIES)}')
    heads, layers = config.num_attention_heads, config.num_hidden_layers
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    if head_dim % 16 or head_dim > MOST_HEAD_DIM:
        raise UnsupportedArchitecture(f"head_dim {head_dim} is not a multiple of 16 up to {MOST_HEAD_DIM}")
    if config.hidden_act != "silu":
        raise UnsupportedArchitecture(f'activation "{config.hidden_act}" is not silu')
    rope = config.rope_parameters or {}
    if rope.get("rope_type", "default") in TURNS_WITH_LENGTH:
        raise UnsupportedArchitecture(f'rotary scaling "{rope["rope_type"]}" depends on the length of a sequence')
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise UnsupportedArchitecture("only a part of each head is rotated")
    rotates = getattr(config, "no_rope_layers", None) or [1] * layers  # SmolLM3 lists those that do rotate
    return Description(
        layers=layers,
        hidden=config.hidden_size,
        heads=heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        intermediate=config.intermediate_size,
        vocabulary=config.vocab_size,
        epsilon=config.rms_norm_eps,
        tied=config.tie_word_embeddings,
        windows=_windows(config, layers),
        rotates=tuple(bool(flag) for flag in rotates),
        embedding_scale=getattr(config, "embedding_multiplier", 1.0),
        residual_scale=getattr(config, "residual_multiplier", 1.0),
        attention_scale=getattr(config, "attention_multiplier", head_dim**-0.5),
        logit_scale=1.0 / getattr(config, "logits_scaling", 1.0),
    )


def _windows(config: Any, layers: int) -> tuple[int, ...]:
    window = getattr(config, "sliding_window", None)
    if not window or getattr(config, "use_sliding_window", True) is False:
        return (0,) * layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)


class RotaryTable:
    """Cosines and sines of each position, [positions, D / 2 + D / 2] fp32, scaled as the config says; grows with use."""

    def __init__(self, config: Any) -> None:
        rope = config.rope_parameters or {}
        kind = rope.get("rope_type", "default")
        if kind == "default":
            head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
            pairs = torch.arange(0, head_dim, 2, dtype=torch.float32)
            self._frequencies, self._scale = 1.0 / rope["rope_theta"] ** (pairs / head_dim), 1.0
        else:
            self._frequencies, self._scale = ROPE_INIT_FUNCTIONS[kind](config)
        self._table = torch.empty(0, 0, dtype=torch.float32)

    def up_to(self, positions: int) -> Tensor:
        """At least that many rows."""
        if len(self._table) < positions:
            rows = max(positions, 2 * len(self._table), 1024)
            angles = torch.arange(rows, dtype=torch.float32)[:, None] * self._frequencies
            self._table = torch.cat((angles.cos(), angles.sin()), -1) * self._scale
        return self._table
