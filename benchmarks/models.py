"""Models for benchmarks of speed: real shapes with random weights, built from a config, so that nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

SHAPES = {
    "smollm2-135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "15m": {
        "vocab_size": 8192,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""SmolLM2-135M's shape, and one of 15.7M parameters."""


def random_checkpoint(shape: str, directory: Path) -> Path:
    """A Llama checkpoint of this shape in bfloat16, with a tokenizer; kept if it is there already."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lifecycle.model.tokenizer import train_tokenizer

    target = directory / shape
    if not (target / "config.json").exists():
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**SHAPES[shape])).to(torch.bfloat16).save_pretrained(target)
        train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 320).save_pretrained(target)
    return target
