"""From a version directory to a backend: the kernels of our own where they can do what is asked for, else transformers.

transformers' models take seconds to import, so they are imported where a model needs them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device
from lifecycle.model.directory import read_config
from serving.domain.request import Prompt
from serving.infrastructure.checkpoint import arithmetic, opening
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.native.backend import BLOCK, NativeBackend
from serving.infrastructure.native.description import describe
from serving.infrastructure.native.library import NativeUnavailable
from serving.infrastructure.native.weights import Checkpoint, packed_bytes
from serving.infrastructure.pool_size import kv_bytes

if TYPE_CHECKING:
    from serving.infrastructure.padded_backend import PaddedTorchBackend
    from serving.infrastructure.torch_backend import PackedTorchBackend

    Backend = NativeBackend | PackedTorchBackend | PaddedTorchBackend

log = logging.getLogger(__name__)


def load_backend(directory: str | Path, config: ServingConfig, example: Prompt | None = None) -> Backend:
    """The model of a checkpoint directory, checked and with its KV pool; the log says which backend took it and why.

    `example` is a prompt with a picture, for a model that sees.

    Raises LifecycleError when there is no model, it cannot be driven in the way asked for, its weights are not numbers, or
    the device is missing.
    """
    directory, device = Path(directory), choose_device(config.device)
    hint = "" if config.backend == "auto" else "; try --backend auto"
    try:
        if example is not None:
            from serving.infrastructure.torch_loading import load_packed_with_sight

            return load_packed_with_sight(directory, config, device, example)
        if config.backend == "auto" and config.adapters:
            log.info("no native backend for %s: it applies no LoRA adapters", directory)
        elif config.backend in ("auto", "native"):
            try:
                return load_native(directory, config, device)
            except (UnsupportedArchitecture, NativeUnavailable) as error:
                if config.backend == "native":
                    raise
                if config.kv_cache_dtype == "int8":
                    raise UnsupportedArchitecture(
                        f"only the native backend keeps keys and values in int8, and {error}; use --set kv_cache_dtype=auto"
                    ) from None
                log.info("no native backend for %s: %s", directory, error)
        if config.kv_cache_dtype == "int8":
            raise UnsupportedArchitecture(f"only the native backend keeps keys and values in int8, not {config.backend}")
        from serving.infrastructure.torch_loading import choose_backend, load_model

        return choose_backend(load_model(directory, config, device), config)
    except (UnsupportedArchitecture, NativeUnavailable) as error:
        raise LifecycleError(f"cannot serve {directory}: {error}{hint}") from None


def load_native(directory: Path, config: ServingConfig, device: torch.device) -> NativeBackend:
    """Kernels of our own. Raises UnsupportedArchitecture or NativeUnavailable where they cannot do what is asked for."""
    if device.type != "cpu":
        raise UnsupportedArchitecture(f"the kernels are for CPUs, not for {device}")
    if config.dtype == "float32":
        raise UnsupportedArchitecture("the kernels multiply in bfloat16, and float32 was asked for")
    if config.block_size != BLOCK:
        raise UnsupportedArchitecture(f"the kernels have blocks of {BLOCK} tokens, and {config.block_size} were asked for")
    with opening(directory):
        model_config = read_config(directory)
    how = arithmetic(directory, config)
    native = NativeBackend(
        model_config,
        Checkpoint(directory),
        num_blocks=config.num_blocks,
        kv_bytes=kv_bytes(config.kv_memory_mb, device, packed_bytes(describe(model_config), int8=how is not None)),
        int8=config.dtype == "int8",
        int8_cache=config.kv_cache_dtype == "int8",
    )
    log.info(
        "native backend for %s: %s kernels, %d threads, %s",
        model_config.model_type,
        native.level,
        native.threads,
        how or "bfloat16",
    )
    return native
