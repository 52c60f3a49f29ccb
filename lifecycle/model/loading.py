"""Any causal language model of a checkpoint directory, its weights in floating point or in int8.

An int8 checkpoint is marked in its config.json as the library compressed-tensors does it, which vLLM reads. transformers would
ask for that library; here it is not needed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights

from lifecycle.errors import LifecycleError
from lifecycle.model.int8 import empty_linears

_INT8 = {"num_bits": 8, "type": "int", "symmetric": True}
QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {**_INT8, "strategy": "channel", "dynamic": False},
            "input_activations": {**_INT8, "strategy": "token", "dynamic": True},
        }
    },
    "ignore": ["lm_head"],
}
"""config.json's "quantization_config" for W8A8 with the head left alone."""

CODEC_DIRECTORY = "codec"
"""Where a version that hears and speaks keeps its codec."""
FOREIGN = {"model.gguf": "llama.cpp", "openvino_model.xml": "OpenVINO GenAI"}
"""Files that other engines load, by which their artefacts are known."""


def is_int8(directory: str | Path) -> bool:
    """Whether a checkpoint holds int8 weights in the form that `QUANTIZATION` describes."""
    file = Path(directory) / "config.json"
    marked = (json.loads(file.read_text()).get("quantization_config") if file.is_file() else None) or {}
    return all(marked.get(key) == QUANTIZATION[key] for key in ("quant_method", "format"))


def is_adapter(directory: str | Path) -> bool:
    """Whether a directory holds what PEFT saves of an adapter, and no model."""
    return (Path(directory) / "adapter_config.json").is_file() and not (Path(directory) / "config.json").is_file()


def sees(directory: str | Path) -> bool:
    """Whether a checkpoint has a vision tower in front of its language model."""
    file = Path(directory) / "config.json"
    return file.is_file() and "vision_config" in json.loads(file.read_text())


def speaks(directory: str | Path) -> bool:
    """Whether a checkpoint comes with a codec, whose tokens it reads and writes."""
    return (Path(directory) / CODEC_DIRECTORY).is_dir()


def load_config(directory: str | Path) -> Any:
    """transformers' config of a checkpoint, without the mark of its quantisation, at which transformers would stop."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def load_causal_lm(directory: str | Path, dtype: torch.dtype | str = "auto") -> PreTrainedModel:
    """What `AutoModelForCausalLM.from_pretrained` gives, for models that see and for int8 checkpoints as well; these compute between their
    `Int8Linear`s in `dtype`, "auto" being that of config.json.

    Raises LifecycleError for an adapter, for what other engines load, and when an int8 checkpoint's tensors are not those of its config.json.
    """
    directory = Path(directory)
    if is_adapter(directory):
        raise LifecycleError(
            f"{directory} holds an adapter and no model: serve it on its base, or train it merged with --set method=lora"
        )
    if engine := next((engine for file, engine in FOREIGN.items() if (directory / file).is_file()), None):
        raise LifecycleError(f"{directory} is for {engine}, and no checkpoint: serve the version that it was made from, deployed with --target bf16")
    if sees(directory):
        return AutoModelForImageTextToText.from_pretrained(directory, dtype=dtype, local_files_only=True)
    if not is_int8(directory):
        return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, local_files_only=True)
    config = load_config(directory)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=(config.dtype or torch.float32) if dtype == "auto" else dtype)
    empty_linears(model)
    model.tie_weights()
    tensors = {name: tensor for file in sorted(directory.glob("*.safetensors")) for name, tensor in load_file(file).items()}
    if config.tie_word_embeddings:  # written down once
        tensors["lm_head.weight"] = tensors.get("model.embed_tokens.weight")
    try:
        model.load_state_dict(tensors, strict=True)
    except (RuntimeError, AttributeError) as error:
        raise LifecycleError(f"{directory} does not hold the int8 weights that its config.json describes: {error}") from None
    if (directory / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(directory, local_files_only=True)
    return model.eval()


def save_int8(model: PreTrainedModel, directory: Path) -> None:
    """Write a model of `Int8Linear`s so that `load_causal_lm`, the native backend and vLLM open it."""
    model.config.quantization_config = QUANTIZATION
    model.save_pretrained(directory)
    del model.config.quantization_config
