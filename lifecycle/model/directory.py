"""What a checkpoint directory holds, told from its files: no model is opened, and neither torch nor transformers' models are loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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

WRITTEN_OUT = {
    "hidden_size": int,
    "intermediate_size": int,
    "num_hidden_layers": int,
    "num_attention_heads": int,
    "num_key_value_heads": int,
    "head_dim": int,
    "vocab_size": int,
    "max_position_embeddings": int,
    "hidden_act": str,
    "rms_norm_eps": float,
    "rope_parameters": dict,
    "tie_word_embeddings": bool,
}
"""What a llama's computation depends on. transformers from version 5 on writes all of it into config.json."""


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
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return config


def read_config(directory: str | Path) -> Any:
    """Like `load_config`, for those who read fields and build no model of transformers' from it.

    A llama whose config.json says all of `WRITTEN_OUT` needs no defaults of its family. The class that knows them imports all of
    transformers' models' machinery, which takes longer than everything else between a server's start and its first answer.
    """
    from transformers import PreTrainedConfig

    file = Path(directory) / "config.json"
    written = json.loads(file.read_text()) if file.is_file() else {}
    if written.get("model_type") == "llama" and all(type(written.get(name)) is kind for name, kind in WRITTEN_OUT.items()):
        return PreTrainedConfig(**{key: value for key, value in written.items() if key != "quantization_config"})
    return load_config(directory)
