"""From a version directory to a backend: where to compute, in which arithmetic, how, and what its author recommends."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device, choose_dtype
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.pool_size import kv_bytes
from serving.infrastructure.torch_backend import PackedTorchBackend

log = logging.getLogger(__name__)

SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
"""What generation_config.json calls a setting, and what a request calls it."""


def load_backend(directory: str | Path, config: ServingConfig) -> PackedTorchBackend | PaddedTorchBackend:
    """The model of a checkpoint directory, checked and with its KV pool.

    Raises LifecycleError when there is no model, it cannot be driven in the way asked for, or the device is missing.
    """
    device = choose_device(config.device)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=choose_dtype(config.dtype, device), local_files_only=True
        ).to(device)
    except (OSError, ValueError) as error:
        raise LifecycleError(
            f"{directory} holds no causal language model that transformers can open: {error}"
        ) from None
    try:
        return choose_backend(model, config)
    except UnsupportedArchitecture as error:
        hint = "; try --backend auto" if config.backend != "auto" else ""
        raise LifecycleError(f"cannot serve {directory}: {error}{hint}") from None


def choose_backend(model: Any, config: ServingConfig) -> PackedTorchBackend | PaddedTorchBackend:
    """Packed where the model agrees with itself, else padded; logs which and why. Raises UnsupportedArchitecture."""
    pool = {
        "block_size": config.block_size,
        "num_blocks": config.num_blocks,
        "kv_bytes": kv_bytes(config.kv_memory_mb, model.device),
    }
    name, why = type(model).__name__, "asked for"
    if config.backend != "padded":
        try:
            packed = PackedTorchBackend(model, **pool)
            log.info("packed backend for %s: packed sequences get the logits of each alone", name)
            return packed
        except UnsupportedArchitecture as error:
            if config.backend == "packed":
                raise
            why = str(error)
    padded = PaddedTorchBackend(model, **pool, max_num_seqs=config.max_num_seqs)
    log.warning("padded backend for %s (%s): %s", name, padded.abilities, why)
    return padded


def default_sampling(directory: str | Path) -> dict[str, Any]:
    """What generation_config.json says, under a request's names; see `SAMPLING`."""
    file = Path(directory) / "generation_config.json"
    written = json.loads(file.read_text()) if file.exists() else {}
    chosen = {ours: written[theirs] for theirs, ours in SAMPLING.items() if written.get(theirs) is not None}
    return {**chosen, "temperature": 0.0} if written.get("do_sample") is False else chosen
