"""Models that transformers drives: opened, and behind the backend that agrees with them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from lifecycle.hardware import choose_dtype
from lifecycle.model.directory import is_int8
from lifecycle.model.int8 import round_linears
from lifecycle.model.loading import load_causal_lm
from serving.domain.request import Prompt
from serving.infrastructure.checkpoint import arithmetic, opening
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.native.weights import check_numbers
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.pool_size import MEBIBYTE, kv_bytes
from serving.infrastructure.torch_backend import PackedTorchBackend

log = logging.getLogger(__name__)


def load_packed_with_sight(
    directory: Path, config: ServingConfig, device: torch.device, example: Prompt
) -> PackedTorchBackend:
    """A model that sees has no other backend. Raises UnsupportedArchitecture when its pictures cannot be packed."""
    if config.backend not in ("auto", "packed"):
        raise UnsupportedArchitecture(f"only the packed backend shows a model pictures, not {config.backend}")
    if "int8" in (config.dtype, config.kv_cache_dtype):
        raise UnsupportedArchitecture("a model that sees is not served in int8; use --set dtype=auto kv_cache_dtype=auto")
    model = load_model(directory, config, device)
    pool = {
        "block_size": config.block_size,
        "num_blocks": config.num_blocks,
        "kv_bytes": kv_bytes(config.kv_memory_mb, model.device),
    }
    packed = PackedTorchBackend(model, **pool, example=example, picture_bytes=config.picture_cache_mb * MEBIBYTE)
    log.info("packed backend for %s: packed sequences get the logits of each alone, with a picture too", type(model).__name__)
    return packed


def load_model(directory: Path, config: ServingConfig, device: torch.device) -> Any:
    """By transformers, on the device and in the arithmetic asked for; the decoder's matrices in int8 where that is it."""
    int8 = arithmetic(directory, config)
    with opening(directory):
        dtype = choose_dtype("auto" if config.dtype == "int8" else config.dtype, device)
        model = load_causal_lm(directory, dtype=dtype)
    for name, weight in model.named_parameters():
        check_numbers(name, weight)
    if int8:
        log.info("%s: %s, the rest in %s", type(model).__name__, int8, model.dtype)
        if not is_int8(directory):
            round_linears(model)
    return model.to(device)


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
