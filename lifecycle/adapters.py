"""LoRA adapters (Hu et al., 2021) as versions: put on their base, trained further, published alone.

A version that is an adapter has its base as its first parent.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import is_adapter
from lifecycle.registry import ModelRegistry, ModelVersion

TRAINED = "default"
"""PEFT's name of the adapter that is trained; TRL keeps a copy of where it started beside it."""


def base_of(version: ModelVersion) -> ModelVersion:
    """The model that an adapter goes on top of; any other version is its own base."""
    if not is_adapter(version.path):
        return version
    if not version.manifest.parents:
        raise LifecycleError(f"{version.ref} is an adapter whose base is not recorded: train one with lifecycle sft --set method=adapter")
    return ModelRegistry(version.path.parents[1]).load(version.manifest.parents[0].ref)


def put_on(base: PreTrainedModel, version: ModelVersion) -> PeftModel:
    """A base with an adapter on it, which alone is trained."""
    return PeftModel.from_pretrained(base, version.path, is_trainable=True)


@torch.no_grad()
def checkpoint_weights(model: PreTrainedModel | PeftModel) -> dict[str, torch.Tensor]:
    """Weights by their names in a checkpoint; an adapter's are added to those of its base, which stay as they are."""
    if not isinstance(model, PeftModel):
        return model.state_dict()
    whole = model.get_base_model()
    found = {name.replace(".base_layer.", "."): weight for name, weight in whole.state_dict().items() if ".lora_" not in name}
    for name, layer in whole.named_modules():
        if isinstance(layer, LoraLayer):
            found[f"{name}.weight"] = found[f"{name}.weight"] + layer.get_delta_weight(TRAINED)
    return found


def write(directory: Path, model: PeftModel, base: ModelVersion) -> None:
    """What PEFT saves, and nothing of the base: not its tokenizer either."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base.ref  # else the path on this machine
    model.save_pretrained(directory, selected_adapters=[TRAINED], save_embedding_layers=False)  # they have not changed
    (directory / "README.md").unlink(missing_ok=True)  # PEFT's card, which knows less than the registry's


def parents_of(model: PreTrainedModel | PeftModel, parents: list[ModelVersion]) -> list[ModelVersion]:
    """The same versions; for an adapter its base comes first."""
    return [base_of(parents[0]), *parents] if isinstance(model, PeftModel) else parents
