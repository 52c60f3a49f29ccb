"""An int8 checkpoint comes back bit for bit, and what is wrong with one is said."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import is_int8
from lifecycle.model.int8 import Int8Linear, round_linears
from lifecycle.model.loading import load_causal_lm, save_int8

IDS = torch.arange(30)[None]


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=60, **sizes, num_key_value_heads=2, attention_bias=True, tie_word_embeddings=True)
    return AutoModelForCausalLM.from_config(config).eval()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_saved_comes_back_bit_for_bit(model, tmp_path, dtype):
    model.save_pretrained(tmp_path / "floats")
    model = load_causal_lm(tmp_path / "floats", dtype=dtype)
    round_linears(model)
    save_int8(model, tmp_path)
    again = load_causal_lm(tmp_path)
    assert is_int8(tmp_path) and again.dtype == dtype
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert again.lm_head.weight is again.model.embed_tokens.weight


@torch.no_grad()
def test_int8_is_near_and_only_the_layers_are_rounded(model):
    exact = model(IDS).logits
    round_linears(model)
    rounded = model(IDS).logits
    assert 0 < (rounded - exact).square().mean().sqrt() < 0.05 * exact.std()
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 14
    assert isinstance(model.lm_head, torch.nn.Linear)


def test_the_files_are_what_compressed_tensors_describes(model, tmp_path):
    round_linears(model)
    save_int8(model, tmp_path)
    told = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert (told["quant_method"], told["format"], told["ignore"]) == ("compressed-tensors", "int-quantized", ["lm_head"])
    tensors = load_file(tmp_path / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    assert tensors[name].dtype == torch.int8 and tensors[f"{name}_scale"].shape == (32, 1)


def test_a_checkpoint_in_floating_point_is_opened_as_ever(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = load_causal_lm(tmp_path, dtype=torch.bfloat16)
    assert not is_int8(tmp_path) and again.dtype == torch.bfloat16
    assert torch.equal(again.lm_head.weight, model.lm_head.weight.bfloat16())


def test_a_missing_tensor_is_named(model, tmp_path):
    round_linears(model)
    save_int8(model, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight_scale"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LifecycleError, match=r"layers\.1\.mlp\.up_proj\.weight_scale"):
        load_causal_lm(tmp_path)


def test_an_adapter_is_no_model(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(LifecycleError, match="holds an adapter and no model"):
        load_causal_lm(tmp_path)
