"""A tiny random model with a real tokenizer, which constrained answers need; the engine in small blocks."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lifecycle.model.tokenizer import train_tokenizer
from serving.infrastructure.grammars import Grammars
from serving.infrastructure.tokenizer import HFTokenizer

VOCAB = 320


@pytest.fixture(scope="package")
def directory(tmp_path_factory):
    """A checkpoint: its bfloat16 weights are also its float32 ones."""
    target = tmp_path_factory.mktemp("constrained")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=3,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).bfloat16().save_pretrained(target)
    train_tokenizer(["the quick brown fox jumps over the lazy dog. 0123456789"] * 4, VOCAB).save_pretrained(target)
    return target


@pytest.fixture(scope="package")
def tokenizer(directory):
    return HFTokenizer(directory)


@pytest.fixture(scope="package")
def grammars(tokenizer):
    return Grammars(tokenizer)
