"""Any causal language model of a checkpoint directory, its weights in floating point or in int8.

An int8 checkpoint is marked in its config.json as the library compressed-tensors does it, which vLLM reads. transformers would
ask for that library; here it is not needed.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import FOREIGN, QUANTIZATION, is_adapter, is_int8, load_config, sees
from lifecycle.model.int8 import empty_linears


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
