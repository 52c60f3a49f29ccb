"""Angles are those of the model's own module, whatever scaling its config asks for."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from serving.infrastructure.native.description import RotaryTable

from .models import CONFIGS, LLAMA3_ROPE, SIZE

SCALINGS = {
    "llama3": LLAMA3_ROPE,
    "linear": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0},
    "yarn": {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 256},
}


def configurations():
    yield from CONFIGS.items()
    for name, scaling in SCALINGS.items():
        yield name, lambda scaling=scaling: LlamaConfig(**SIZE, rope_parameters=scaling)


@pytest.mark.parametrize(("name", "config"), configurations(), ids=lambda value: value if isinstance(value, str) else "")
def test_cosines_and_sines_are_those_of_transformers(name, config):
    config = config()
    module = AutoModelForCausalLM.from_config(config).model.rotary_emb
    table, positions = RotaryTable(config), 3000
    half = table.up_to(positions).shape[1] // 2
    cosines, sines = module(torch.zeros(1, 1), torch.arange(positions)[None])
    torch.testing.assert_close(table.up_to(positions)[:positions, :half], cosines[0, :, :half], atol=1e-6, rtol=0)
    torch.testing.assert_close(table.up_to(positions)[:positions, half:], sines[0, :, :half], atol=1e-6, rtol=0)
