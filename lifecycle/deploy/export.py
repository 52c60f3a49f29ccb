"""Writing the artefact of a target."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor, AutoTokenizer, GenerationConfig

from lifecycle.deploy.config import DeployConfig
from lifecycle.deploy.gguf_file import FILE, plain_template, write_gguf
from lifecycle.errors import LifecycleError
from lifecycle.hardware import DTYPES
from lifecycle.model.directory import CODEC_DIRECTORY, is_adapter, sees, speaks
from lifecycle.model.loading import load_causal_lm, save_int8
from lifecycle.registry import ModelVersion


def export(parent: ModelVersion, config: DeployConfig, directory: Path, licences: str = "") -> dict[str, Any]:
    """Fill a directory with what `config.target` asks for; what is worth recording about it.

    `parent.path` is a whole checkpoint, but for the target "adapter". Raises LifecycleError for a version that cannot become that.
    """
    directory.mkdir(parents=True, exist_ok=True)
    kind, _, precision = config.target.partition("-")
    write: dict[str, Callable[[], dict[str, Any] | None]] = {
        "adapter": lambda: _adapter(parent, directory),
        "gguf": lambda: _gguf(parent, precision, directory, licences),
        "openvino": lambda: _openvino(parent, directory, licences),
    }
    return write.get(kind, lambda: _checkpoint(parent, config, directory))() or {}


def _checkpoint(parent: ModelVersion, config: DeployConfig, directory: Path) -> None:
    """Weights in the wanted type, tokenizer and chat template, and the defaults of a served model."""
    int8 = config.target == "int8"
    if int8 and sees(parent.path):
        raise LifecycleError(f"{parent.ref} sees, and a vision tower is not rounded to int8: use --target bf16")
    model = load_causal_lm(parent.path, dtype=torch.float32 if int8 else DTYPES[config.target])
    tokenizer = _tokenizer(parent)
    if int8:
        from lifecycle.deploy.rounding import to_int8

        to_int8(model, tokenizer, config.calibration, config.calibration_texts, parent.ref)
    told = (Path(parent.path) / "generation_config.json").is_file()  # an imported one may lack it
    stops = GenerationConfig.from_pretrained(parent.path).eos_token_id if told else tokenizer.eos_token_id
    choice = {"do_sample": True, "temperature": config.temperature, "top_p": config.top_p} if config.temperature else {"do_sample": False}
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=stops,
        max_new_tokens=config.max_tokens,
        **choice,
    )
    if int8:
        save_int8(model, directory)
    else:
        model.save_pretrained(directory)
    (AutoProcessor.from_pretrained(parent.path) if sees(parent.path) else tokenizer).save_pretrained(directory)
    if speaks(parent.path):
        shutil.copytree(Path(parent.path) / CODEC_DIRECTORY, directory / CODEC_DIRECTORY)


def _gguf(parent: ModelVersion, precision: str, directory: Path, licences: str) -> dict[str, Any]:
    if sees(parent.path):
        raise LifecycleError(f"{parent.ref} sees, and GGUF is written of models that read: use --target bf16")
    _tokenizer(parent)
    return {"stored": write_gguf(Path(parent.path), directory / FILE, precision, licences, parent.ref)}


def _openvino(parent: ModelVersion, directory: Path, licences: str) -> None:
    """OpenVINO GenAI reads GGUF and writes its own representation; what else it looks for is copied."""
    from lifecycle.deploy.engines.processes import OPENVINO, WORKERS

    python = OPENVINO.required()
    _gguf(parent, "f16", directory, licences)
    command = [str(python), str(WORKERS / OPENVINO.worker), str(directory / FILE), str(directory)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or not (directory / "openvino_model.xml").is_file():
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise LifecycleError(f"OpenVINO cannot convert {parent.ref}: {said[-1][:300] if said else 'it wrote no model'}")
    (directory / FILE).unlink()
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (Path(parent.path) / name).is_file():
            shutil.copyfile(Path(parent.path) / name, directory / name)
    (directory / "chat_template.jinja").write_text(plain_template(_tokenizer(parent).chat_template))


def _adapter(parent: ModelVersion, directory: Path) -> dict[str, Any]:
    """What PEFT reads, its weights in bf16."""
    from safetensors.torch import load_file, save_file

    if not is_adapter(parent.path):
        raise LifecycleError(f"{parent.ref} is a whole model, not an adapter: use --target bf16, or train one with lifecycle sft --set method=adapter")
    weights = load_file(Path(parent.path) / "adapter_model.safetensors")
    save_file({name: weight.bfloat16() for name, weight in weights.items()}, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(Path(parent.path) / "adapter_config.json", directory / "adapter_config.json")
    told = json.loads((directory / "adapter_config.json").read_text())
    return {"base": told["base_model_name_or_path"], "rank": told.get("r")}


def _tokenizer(parent: ModelVersion):
    tokenizer = AutoTokenizer.from_pretrained(parent.path)
    if not tokenizer.chat_template:
        raise LifecycleError(f"{parent.ref} has no chat template, so nobody can chat with it: fine-tune it first, lifecycle sft --parent {parent.ref}")
    return tokenizer
