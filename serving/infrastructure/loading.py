"""From a version directory to a backend: where to compute, in which arithmetic, how, and what its author recommends."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device, choose_dtype
from lifecycle.model.int8 import round_linears
from lifecycle.model.loading import is_int8, load_causal_lm, load_config
from serving.domain.request import Prompt
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.conformance import UnsupportedArchitecture
from serving.infrastructure.native.backend import BLOCK, NativeBackend
from serving.infrastructure.native.library import NativeUnavailable
from serving.infrastructure.native.weights import Checkpoint, check_numbers
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.pool_size import MEBIBYTE, kv_bytes
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


Backend = NativeBackend | PackedTorchBackend | PaddedTorchBackend


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
        return choose_backend(load_model(directory, config, device), config)
    except (UnsupportedArchitecture, NativeUnavailable) as error:
        raise LifecycleError(f"cannot serve {directory}: {error}{hint}") from None


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


def load_native(directory: Path, config: ServingConfig, device: torch.device) -> NativeBackend:
    """Kernels of our own. Raises UnsupportedArchitecture or NativeUnavailable where they cannot do what is asked for."""
    if device.type != "cpu":
        raise UnsupportedArchitecture(f"the kernels are for CPUs, not for {device}")
    if config.dtype == "float32":
        raise UnsupportedArchitecture("the kernels multiply in bfloat16, and float32 was asked for")
    if config.block_size != BLOCK:
        raise UnsupportedArchitecture(f"the kernels have blocks of {BLOCK} tokens, and {config.block_size} were asked for")
    with opening(directory):
        model_config = load_config(directory)
    native = NativeBackend(
        model_config,
        Checkpoint(directory),
        num_blocks=config.num_blocks,
        kv_bytes=kv_bytes(config.kv_memory_mb, device),
        int8=config.dtype == "int8",
        int8_cache=config.kv_cache_dtype == "int8",
    )
    how = arithmetic(directory, config) or "bfloat16"
    log.info("native backend for %s: %s kernels, %d threads, %s", model_config.model_type, native.level, native.threads, how)
    return native


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


def arithmetic(directory: Path, config: ServingConfig) -> str | None:
    """How the decoder's matrices are multiplied when it is in int8, for the log; None when it is not."""
    if is_int8(directory):
        return "int8 as stored"
    return "int8, rounded at load" if config.dtype == "int8" else None


@contextmanager
def opening(directory: Path) -> Iterator[None]:
    """Says what is wrong with a directory that transformers cannot open."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise LifecycleError(
            f"{directory} holds no causal language model that transformers can open: {error}"
        ) from None


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
