"""A tiny real model in a registry, and LoRA adapters of it that PEFT itself has made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.registry import ModelRegistry, ModelVersion

SHAPE = ModelConfig(
    vocab_size=320, hidden_size=32, num_layers=2, num_heads=2, num_kv_heads=1, intermediate_size=64, context_length=512
)
LINEARS = ("q_proj", "v_proj", "o_proj", "up_proj", "down_proj")


def save_adapter(base: Path, directory: Path, seed: int = 0, **settings) -> torch.nn.Module:
    """Write an adapter of random weights as PEFT does, and return PEFT's model of base and adapter, in float32."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": list(LINEARS), "task_type": "CAUSAL_LM", **settings})
    adapted = get_peft_model(model, config).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    adapted.save_pretrained(directory)
    return adapted


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """Versions `tiny/1` (alias `production`), `tiny/2`, `other/1`, and the adapters `adapter/1` and `adapter/2` of `tiny/1`."""
    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    tokenizer = train_tokenizer(["the quick brown fox jumps over the lazy dog. 0123456789"] * 4, 320)

    def model(seed: int) -> Callable[[Path], None]:
        decoder = Decoder(SHAPE, seed=seed)
        torch.manual_seed(seed)
        for weight in decoder.parameters():
            if weight.dim() > 1:  # the usual start makes a random model say its last word again and again
                torch.nn.init.normal_(weight, std=0.3)
        return lambda directory: save_checkpoint(decoder, SHAPE, tokenizer, directory)

    tiny = registry.publish("tiny", model(1))
    registry.publish("tiny", model(2))
    registry.publish("other", model(3))
    registry.set_alias("production", "tiny/1")
    for seed in (1, 2):
        registry.publish(
            "adapter", lambda directory, seed=seed: save_adapter(tiny.path, directory, seed), parents=[tiny], seed=seed
        )
    return registry


@pytest.fixture(scope="session")
def base(registry: ModelRegistry) -> ModelVersion:
    return registry.load("tiny/1")
