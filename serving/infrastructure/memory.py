"""Is there room for one more model? Asked before its weights are read: an answer is better than a killed process."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from safetensors import safe_open

from lifecycle.hardware import choose_device, choose_dtype
from lifecycle.model.directory import is_int8
from serving.domain.errors import Conflict
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.pool_size import MEBIBYTE, SHARE, free_bytes

STORED = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2}
"""Bytes of a safetensors dtype; any other has one."""


def weight_bytes(directory: Path, config: ServingConfig) -> int:
    """Memory of a checkpoint's weights in the arithmetic that they will be served in, from the headers of its files."""
    device = choose_device(config.device)
    served = choose_dtype("auto" if config.dtype == "int8" else config.dtype, device)
    total = 0
    for file in directory.glob("*.safetensors"):
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (it is no dictionary)
                tensor = tensors.get_slice(name)
                stored = STORED.get(tensor.get_dtype(), 1)
                size = stored if is_int8(directory) else max(stored, served.itemsize)
                total += math.prod(tensor.get_shape()) * size
    return total


def require_memory(directory: Path, config: ServingConfig) -> None:
    """Raises Conflict when the weights, and the keys and values where their size was asked for, exceed what is free."""
    weights, free = weight_bytes(directory, config), free_bytes(choose_device(config.device))
    wanted = weights + (config.kv_memory_mb or 0) * MEBIBYTE
    if wanted > free:
        raise Conflict(
            f"not enough memory: {math.ceil(wanted / MEBIBYTE)} MiB are needed and {free // MEBIBYTE} MiB are free; unload "
            "another model first" + (", or ask for less kv_memory_mb" if config.kv_memory_mb else ""),
            param="ref",
            code="insufficient_memory",
        )


def kv_share_mb(directory: Path, config: ServingConfig, engines: int) -> int:
    """MiB of keys and values for one of `engines` models that share the device: as much for each as for the others."""
    device: torch.device = choose_device(config.device)
    left = free_bytes(device) - weight_bytes(directory, config)
    return max(1, int(SHARE * left / engines) // MEBIBYTE)
