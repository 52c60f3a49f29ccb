"""Adapters on a model that sees: pictures with and without one in the same batch, and none on the vision tower."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from lifecycle.errors import LifecycleError
from serving.infrastructure.lora import LoraWeights

from .conftest import Seeing, chat, collect, picture, seeing


def adapter(model, suffix: str) -> LoraWeights:
    torch.manual_seed(3)
    layers = {
        name: (torch.randn(2, layer.in_features) * 0.3, torch.randn(layer.out_features, 2) * 0.3)
        for name, layer in model.named_modules()
        if name.endswith(suffix)
    }
    assert layers
    return LoraWeights(layers)


def merged(family: Seeing, weights: LoraWeights) -> Seeing:
    model = copy.deepcopy(family.model)
    for name, (down, up) in weights.layers.items():
        model.get_submodule(name).weight.data += up @ down
    return replace(family, model=model)


def test_each_request_has_its_own_or_none(tmp_path):
    family = seeing("qwen3_vl", tmp_path, adapters=True)
    weights = adapter(family.model.model.language_model, "mlp.down_proj")
    weights = LoraWeights({f"model.language_model.{name}": pair for name, pair in weights.layers.items()})
    engine = family.served.engine
    engine.add_adapter("own", weights)
    asked = [chat("what is this? ", picture(1)), chat("hello"), chat(picture(2), picture(3))]
    prompts = [one.prompt(family.served) for one in asked]
    plain = [family.submit(prompt) for prompt in prompts]
    adapted = [family.submit(prompt, adapter="own") for prompt in prompts]
    assert [collect(stream)[0] for stream in plain] == [family.generate(one) for one in asked]
    assert [collect(stream)[0] for stream in adapted] == [merged(family, weights).generate(one) for one in asked]
    engine.close()


def test_none_on_the_vision_tower(idefics):
    with pytest.raises(LifecycleError, match="same for everybody"):
        idefics.served.engine.add_adapter("tower", adapter(idefics.model, "vision_model.encoder.layers.0.mlp.fc1"))
