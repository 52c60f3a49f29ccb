"""LoRA adapters as PEFT writes them, read from a directory without PEFT.

An adapter gives some of a model's linear layers two thin matrices more: y = W x + scale * B (A x), A [r, inputs] and
B [outputs, r] (Hu et al. 2021, arXiv 2106.09685). Only this plain kind is read; every variant that computes something else
(DoRA, trained biases, whole layers saved beside) is refused by name, because leaving it out would answer wrongly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from lifecycle.errors import LifecycleError
from serving.infrastructure.native.weights import check_numbers

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
UNDERSTOOD = frozenset(
    {
        *("r", "lora_alpha", "use_rslora", "alpha_pattern", "rank_pattern", "init_lora_weights", "peft_type"),
        *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),  # the weights tell
        *("lora_dropout", "fan_in_fan_out", "inference_mode", "task_type"),  # of training, or of storing the base
        *("base_model_name_or_path", "revision", "auto_mapping", "peft_version"),
        *("megatron_core", "qalora_group_size", "runtime_config", "ensure_weight_tying"),  # parts of what has a switch
    }
)
"""Entries of adapter_config.json that are read, or that change nothing about the arithmetic; any other must be off."""
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
"""`init_lora_weights` that leave the base's weights as they were; the others train against changed ones."""


@dataclass(frozen=True, slots=True)
class LoraWeights:
    """By the name of a linear layer: A [r, inputs], and B [outputs, r] with the scale in it."""

    layers: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        return max(len(down) for down, _ in self.layers.values())


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter rather than a model."""
    return (directory / CONFIG).is_file()


def read_adapter(directory: Path) -> LoraWeights:
    """Raises LifecycleError for what is no adapter, is damaged, or is not plain LoRA."""
    try:
        config = json.loads((directory / CONFIG).read_text())
        tensors = load_file(directory / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise LifecycleError(
            f"{directory} holds no LoRA adapter ({CONFIG} and {WEIGHTS}, as PEFT saves them): {error}"
        ) from None
    check_plain(config, directory)
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        found = KEY.fullmatch(name)
        if found is None or tensor.dim() != 2:
            raise LifecycleError(f'cannot serve the adapter in {directory}: "{name}" is not of a plain LoRA on linear layers')
        check_numbers(name, tensor)
        parts.setdefault(found["module"], {})[found["part"]] = tensor
    if not parts:
        raise LifecycleError(f"the adapter in {directory} has no weights")
    layers = {}
    for module, pair in parts.items():
        if pair.keys() != {"A", "B"} or len(pair["A"]) != pair["B"].shape[1]:
            raise LifecycleError(f"the adapter in {directory} is damaged: A and B of {module} do not belong together")
        layers[module] = (pair["A"], pair["B"] * scale(config, module, rank=len(pair["A"])))
    return LoraWeights(layers)


def check_plain(config: Any, directory: Path) -> None:
    """Raises LifecycleError naming the first setting that asks for more than A and B."""
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise LifecycleError(f"cannot serve the adapter in {directory}: only LoRA is supported, and it is {kind}")
    for name, value in config.items():
        if name not in UNDERSTOOD and value not in (None, False, "none", [], {}):
            raise LifecycleError(
                f'cannot serve the adapter in {directory}: "{name}" is {json.dumps(value)}, and only plain LoRA is supported; '
                "merge it into its base (PEFT's merge_and_unload) and serve the result"
            )
    if (start := config.get("init_lora_weights")) not in PLAIN_STARTS:
        raise LifecycleError(
            f'cannot serve the adapter in {directory}: "init_lora_weights" is "{start}", so it belongs to a changed base; '
            "convert it to plain LoRA (PEFT's path_initial_model_for_weight_conversion) or merge it"
        )


def scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """alpha / rank, or alpha / sqrt(rank) with rsLoRA (arXiv 2312.03732); alpha may differ from layer to layer."""
    patterns = config.get("alpha_pattern") or {}
    matching = (pattern for pattern in patterns if re.match(rf"(.*\.)?({pattern})$", module))
    alpha = patterns.get(next(matching, None), config.get("lora_alpha", 8))
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
