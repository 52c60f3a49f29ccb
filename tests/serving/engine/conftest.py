"""Tiny models with random weights: real architectures, a few thousand parameters, float32."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from .support import VOCAB

SIZE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.3,  # the default makes a random model nearly indifferent between tokens
}
GPT2_SIZE = {
    "vocab_size": VOCAB,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 256,
    "bos_token_id": None,
    "eos_token_id": None,
    "initializer_range": 0.3,
}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZE)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZE, sliding_window=8)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2_SIZE)),
}


@pytest.fixture(scope="package", params=FAMILIES)
def any_model(request):
    torch.manual_seed(0)
    return FAMILIES[request.param]().eval()


@pytest.fixture(scope="package")
def model():
    torch.manual_seed(1)
    return FAMILIES["llama"]().eval()
