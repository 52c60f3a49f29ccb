"""From a version directory to a backend: where to compute, in which arithmetic, and what its author recommends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device, choose_dtype
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.torch_backend import PackedTorchBackend, UnsupportedArchitecture

MEBIBYTE = 2**20


def load_backend(directory: str | Path, config: ServingConfig) -> PackedTorchBackend:
    """The model of a checkpoint directory, checked and with its KV pool.

    Raises LifecycleError when there is no model, its architecture cannot be packed, or the device is missing.
    """
    device = choose_device(config.device)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=choose_dtype(config.dtype, device), local_files_only=True
        ).to(device)
        return PackedTorchBackend(
            model,
            block_size=config.block_size,
            num_blocks=config.num_blocks,
            kv_bytes=config.kv_memory_mb * MEBIBYTE,
        )
    except UnsupportedArchitecture as error:
        raise LifecycleError(f"cannot serve {directory}: {error}") from None
    except (OSError, ValueError) as error:
        raise LifecycleError(
            f"{directory} holds no causal language model that transformers can open: {error}"
        ) from None


def default_sampling(directory: str | Path) -> dict[str, Any]:
    """What generation_config.json says, under a request's names: temperature, top_p, top_k, max_tokens."""
    file = Path(directory) / "generation_config.json"
    written = json.loads(file.read_text()) if file.exists() else {}
    names = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "max_new_tokens": "max_tokens"}
    chosen = {ours: written[theirs] for theirs, ours in names.items() if written.get(theirs) is not None}
    return {**chosen, "temperature": 0.0} if written.get("do_sample") is False else chosen
