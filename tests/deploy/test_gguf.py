"""What is written as GGUF says what the checkpoint says: read back by the format's own library, and run by llama.cpp where it is."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jinja2.sandbox import ImmutableSandboxedEnvironment
from sft.tiny import SHAPE
from transformers import AutoConfig, AutoModelForCausalLM

from lifecycle.deploy import q4_k
from lifecycle.deploy.engines.torch_engine import TorchEngine
from lifecycle.deploy.gguf_file import FILE, gguf_name, interleave, plain_template, splitting, stored_as, write_gguf
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets
from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.tokenizer import TEMPLATE_FILE, load_tokenizer

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")

WIDE = replace(SHAPE, hidden_size=256, intermediate_size=288, num_heads=4, num_kv_heads=2, num_layers=1)
"""Rows of 256, which Q4_K takes, and of 288, which it does not."""


@pytest.fixture(scope="module")
def words(template):
    return load_tokenizer(template.registry.load("tokenizer/1").path)


@pytest.fixture(scope="module")
def wide(words, tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("wide")
    save_checkpoint(Decoder(WIDE, seed=3), WIDE, words, directory)
    return directory


def written(checkpoint: Path, directory: Path, precision: str) -> dict[str, int]:
    directory.mkdir(exist_ok=True)
    return write_gguf(checkpoint, directory / FILE, precision, name="tiny/1")


def test_four_bits_are_read_by_the_formats_own_library_as_near_as_four_bits_can_be():
    rows = np.random.default_rng(0).normal(size=(6, 512)).astype(np.float32)
    packed = q4_k.quantise(rows)
    assert packed.shape == (6, 512 // 256 * q4_k.BYTES)

    def error(read: np.ndarray) -> float:
        return float(np.sqrt(np.square(read - rows).mean() / np.square(rows).mean()))

    plain = gguf.GGMLQuantizationType.Q4_0
    found = gguf.dequantize(packed, gguf.GGMLQuantizationType.Q4_K)
    assert error(found) < error(gguf.dequantize(gguf.quantize(rows, plain), plain)) < 0.1
    assert not gguf.dequantize(q4_k.quantise(np.zeros((1, 256), np.float32)), gguf.GGMLQuantizationType.Q4_K).any()


@pytest.mark.parametrize(("precision", "largest"), [("f16", 0.01), ("q8_0", 0.1), ("q4_k", 1.0)])
def test_read_back_it_makes_of_a_text_what_the_checkpoint_does(wide, tmp_path, precision, largest):
    written(wide, tmp_path, precision)
    text = list(range(40, 90))
    (before,), (after,) = TorchEngine.of_checkpoint(wide, torch.float32).read([text]), TorchEngine.of_gguf(tmp_path).read([text])
    assert np.abs(before.logprobs - after.logprobs).max() < largest


def test_what_a_shape_does_not_allow_is_stored_in_what_it_does(wide, tmp_path):
    assert written(wide, tmp_path, "q4_k") == {"Q8_0": 1, "Q4_K": 6, "Q5_0": 1, "F32": 3}  # down_proj has rows of 288
    assert stored_as("model.layers.0.mlp.down_proj.weight", (8, 50), "q4_k") == "F16"
    assert stored_as("model.layers.0.mlp.down_proj.weight", (8, 50), "q8_0") == "F16"
    assert stored_as("model.norm.weight", (50,), "q8_0") == "F32"


HEADS = {"qwen2": 16, "qwen3": 128}
"""Of Qwen3 transformers reads no other size from GGUF."""


@pytest.mark.parametrize("family", HEADS)
def test_other_families_are_read_back_as_well(family, wide, tmp_path):
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model(family, vocab_size=len(json.loads((wide / "tokenizer.json").read_text())["model"]["vocab"]), head_dim=HEADS[family], **shape)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():  # norms and biases that are not all ones and zeros
        if weight.ndim == 1:
            torch.nn.init.normal_(weight, mean=float("bias" not in name), std=0.2)
    checkpoint = tmp_path / "checkpoint"
    model.save_pretrained(checkpoint)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (checkpoint / name).write_bytes((wide / name).read_bytes())
    written(checkpoint, tmp_path / "gguf", "f16")
    text = list(range(40, 90))
    (before,), (after,) = TorchEngine(model).read([text]), TorchEngine.of_gguf(tmp_path / "gguf").read([text])
    assert np.abs(before.logprobs - after.logprobs).max() < 0.01


@pytest.mark.parametrize("layout", ["a file of its own", "in tokenizer_config.json"])
def test_the_tokenizer_goes_along(wide, words, tmp_path, layout):
    checkpoint = shutil.copytree(wide, tmp_path / "checkpoint")
    if layout.startswith("in"):
        told, template = checkpoint / "tokenizer_config.json", checkpoint / "chat_template.jinja"
        told.write_text(json.dumps({**json.loads(told.read_text()), "chat_template": template.read_text()}))
        template.unlink()
    written(checkpoint, tmp_path, "q8_0")
    fields = gguf.GGUFReader(tmp_path / FILE).fields
    assert fields["tokenizer.chat_template"].contents() == plain_template(TEMPLATE_FILE.read_text())
    told = {name: field.contents() for name, field in fields.items() if name.startswith("tokenizer.")}
    tokens, kinds = told["tokenizer.ggml.tokens"], told["tokenizer.ggml.token_type"]
    assert len(tokens) == WIDE.vocab_size and tokens[: len(words)] == words.convert_ids_to_tokens(range(len(words)))
    kind = lambda token: gguf.TokenType(kinds[words.convert_tokens_to_ids(token)])  # noqa: E731
    assert (kind("<|im_end|>"), kind("<tool_call>"), kind("a")) == (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED, gguf.TokenType.NORMAL)
    assert (told["tokenizer.ggml.pre"], told["tokenizer.ggml.add_bos_token"]) == ("smollm", False)
    assert told["tokenizer.ggml.eot_token_id"] == words.convert_tokens_to_ids("<|im_end|>")


def test_the_template_without_marks_of_training_writes_the_same(words):
    plain = plain_template(TEMPLATE_FILE.read_text())
    assert "generation -%}" not in plain
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(plain)
    for skill in sets.skills(None):
        (task,) = sets.load(skill, 1)
        messages = [*task["messages"], {"role": "assistant", "content": "It is blue."}, {"role": "user", "content": "Why?"}]
        expected = words.apply_chat_template(messages, tools=task["tools"], add_generation_prompt=True, tokenize=False)
        assert template.render(messages=messages, tools=task["tools"], add_generation_prompt=True) == expected


def test_rows_are_reordered_within_their_head():
    rows = np.arange(8).reshape(8, 1)
    assert interleave(rows, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert gguf_name("model.layers.3.mlp.up_proj.weight") == "blk.3.ffn_up.weight"
    assert gguf_name("model.norm.weight") == "output_norm.weight"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "gemma2"}, 'its type "gemma2" is not one of llama, qwen2, qwen3'),
        ({"rope_parameters": {"rope_type": "yarn"}}, "its rope is scaled"),
        ({"attention_bias": True}, "its matrices have biases"),
    ],
)
def test_a_model_that_llama_cpp_would_read_wrongly_is_refused(wide, tmp_path, change, reason):
    config = json.loads((wide / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(LifecycleError, match=f"tiny/1 cannot be written as GGUF: {reason}.*--target bf16"):
        written(tmp_path, tmp_path, "f16")


def test_a_tokenizer_that_llama_cpp_has_no_name_for_is_refused(wide):
    described = json.loads((wide / "tokenizer.json").read_text())
    with pytest.raises(LifecycleError, match="its tokenizer is not byte-level BPE with single digits"):
        splitting({**described, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}}, "tiny/1")
