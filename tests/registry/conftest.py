from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lifecycle.registry import ModelRegistry


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(tmp_path / "registry")


@pytest.fixture
def write() -> Callable[[Path], None]:
    """Saves a few real tensors and a config: all that the registry itself cares about."""

    def save(directory: Path, value: float = 1.0) -> None:
        save_file({"weight": np.full((4, 4), value, dtype=np.float32)}, directory / "model.safetensors")
        (directory / "config.json").write_text('{"model_type": "llama"}')

    return save


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama that fits on a stamp, saved the way anybody would."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
    )
    directory = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(config).save_pretrained(directory)
    return directory


def leftovers(registry: ModelRegistry) -> list[Path]:
    """What half-written things there are."""
    return sorted((registry.root / ".staging").glob("*"))
