"""Tiny models of every shape that the kernels take, with weights that bfloat16 holds exactly."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

VOCAB = 101
SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": 72,  # not a multiple of a panel's 32 outputs, and neither is anything below
    "intermediate_size": 100,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
GRANITE = {"embedding_multiplier": 3.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2, "logits_scaling": 2.0}

CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZE),
    "llama, tied": lambda: LlamaConfig(**{**SIZE, "head_dim": 64}, tie_word_embeddings=True),
    "llama, biases, head_dim 80": lambda: LlamaConfig(**{**SIZE, "head_dim": 80}, attention_bias=True, mlp_bias=True),
    "llama, scaled rope, head_dim 96": lambda: LlamaConfig(**{**SIZE, "head_dim": 96}, rope_parameters=LLAMA3_ROPE),
    "llama, one head a key": lambda: LlamaConfig(**{**SIZE, "num_key_value_heads": 6, "head_dim": 32}),
    "llama, eight heads a key": lambda: LlamaConfig(**{**SIZE, "num_attention_heads": 8, "num_key_value_heads": 1}),
    "mistral, window": lambda: MistralConfig(**SIZE, sliding_window=37),
    "qwen2": lambda: Qwen2Config(**{**SIZE, "head_dim": 48}),
    "qwen3": lambda: Qwen3Config(**{**SIZE, "head_dim": 128}),
    "smollm3": lambda: SmolLM3Config(**{**SIZE, "hidden_size": 96, "pad_token_id": 0}, no_rope_layers=[1, 0]),
    "granite": lambda: GraniteConfig(**{**SIZE, "hidden_size": 96}, **GRANITE),
}


def build(config: Any, seed: int = 0) -> Any:
    """A model in fp32 whose logits are a few units large and whose norms do something."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 1 and "norm" in name:
                weight.uniform_(0.5, 1.5)
            else:
                weight.normal_(0.0, 0.15)
            weight.copy_(weight.bfloat16())
    return model
