"""A saved decoder is a plain Hugging Face checkpoint."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lifecycle.errors import LifecycleError
from lifecycle.model.checkpoint import load_checkpoint, save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["one two three"] * 3, 280)


def build(tie: bool) -> Decoder:
    return Decoder(
        ModelConfig(
            vocab_size=288, hidden_size=32, num_layers=2, intermediate_size=48, context_length=64, tie_embeddings=tie
        ),
        seed=4,
    )


@pytest.mark.parametrize("tie", [True, False])
def test_transformers_opens_it_and_it_comes_back(tie, tokenizer, tmp_path):
    model = build(tie)
    save_checkpoint(model, model.config, tokenizer, tmp_path)
    tokens = torch.arange(20)[None]
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, model(tokens), atol=1e-5, rtol=0)
    back = load_checkpoint(tmp_path)
    assert back.config == model.config
    assert all(torch.equal(weight, back.state_dict()[name]) for name, weight in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(tmp_path).encode("one two") == tokenizer.encode("one two")
    assert theirs.generation_config.eos_token_id == [0, tokenizer.convert_tokens_to_ids("<|im_end|>")]
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_half_precision_is_rounding_and_nothing_else(tokenizer, tmp_path):
    model = build(tie=True)
    save_checkpoint(model, model.config, tokenizer, tmp_path, dtype="bf16")
    assert AutoModelForCausalLM.from_pretrained(tmp_path).dtype == torch.bfloat16
    back = load_checkpoint(tmp_path).state_dict()
    assert all(torch.equal(weight.bfloat16().float(), back[name]) for name, weight in model.state_dict().items())


def test_another_architecture_is_refused_by_name(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(LifecycleError, match='"gpt2"'):
        load_checkpoint(tmp_path)


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(LifecycleError, match="no checkpoint"):
        load_checkpoint(tmp_path)
