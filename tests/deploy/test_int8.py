"""What is deployed in int8 is measured against its parent, and everything that loads versions opens it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from sft.tiny import SHAPE, Start

from lifecycle import versions
from lifecycle.cli import main
from lifecycle.deploy import DeployConfig, rounding, run
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets
from lifecycle.evaluation.answering import Answerer
from lifecycle.model.checkpoint import load_checkpoint, save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.directory import is_int8
from lifecycle.model.int8 import Int8Linear
from lifecycle.model.loading import load_causal_lm
from lifecycle.model.tokenizer import load_tokenizer
from lifecycle.registry import ModelVersion
from serving.application.ports import SequenceSlice
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import load_backend
from serving.infrastructure.tokenizer import HFTokenizer

CONFIG = DeployConfig(target="int8", calibration=9, calibration_texts=3, report_limit=2, prompts=20)


WIDE = replace(SHAPE, num_heads=2, num_kv_heads=1)
"""Heads of 16, as the kernels want them."""


@pytest.fixture(scope="module")
def deployed(template, tmp_path_factory) -> tuple[Start, ModelVersion]:
    """A registry with an sft version and its int8 one."""
    start = template.copy(tmp_path_factory.mktemp("int8") / "registry")
    words = load_tokenizer(start.registry.load("tokenizer/1").path)
    parent = start.registry.publish("sft", lambda directory: save_checkpoint(Decoder(WIDE), WIDE, words, directory))
    return start, run(CONFIG, start.registry, parent=parent)


def test_the_manifest_records_what_rounding_cost(deployed):
    _, version = deployed
    metrics = version.manifest.metrics
    assert 0.5 < metrics["agreement"] <= 1
    assert 0 < metrics["mean_difference"] < CONFIG.allowed and metrics["mean_difference"] <= metrics["max_difference"]
    assert metrics["perplexity"] == pytest.approx(metrics["parent_perplexity"], rel=0.05)
    assert metrics["card_delta"].keys() == set(sets.skills(None))
    assert all(-1 <= delta <= 1 for delta in metrics["card_delta"].values())
    assert version.manifest.parents[0].ref == "sft/1"


def test_the_decoders_matrices_are_int8_and_the_rest_bf16(deployed):
    _, version = deployed
    tensors = load_file(Path(version.path) / "model.safetensors")
    for name, tensor in tensors.items():
        wanted = torch.float32 if name.endswith("_scale") else torch.int8 if "_proj." in name else torch.bfloat16
        assert tensor.dtype == wanted, name
    told = json.loads((Path(version.path) / "config.json").read_text())
    assert told["dtype"] == "bfloat16" and told["quantization_config"]["quant_method"] == "compressed-tensors"


def test_everything_that_loads_versions_opens_it(deployed):
    _, version = deployed
    answerer = Answerer.load(version.path)
    assert any(isinstance(module, Int8Linear) for module in answerer.model.modules())
    assert len(answerer.answer(sets.load("sums", 2))) == 2

    tokens = HFTokenizer(version.path).render_chat([{"role": "user", "content": "Hello!"}])
    batch = [SequenceSlice("a", tokens, 0, [0, 1, 2, 3], len(tokens))]
    with torch.no_grad():
        expected = load_causal_lm(version.path, dtype=torch.float32)(torch.tensor([tokens])).logits[0]
    for backend in ("native", "packed", "padded"):
        config = ServingConfig(num_blocks=8, device="cpu", backend=backend)
        got = load_backend(version.path, config).execute(batch)
        assert (got.float() - expected).square().mean().sqrt() < 0.05 * expected.std(), backend


def test_calibration_reads_as_many_conversations_as_it_is_told_with_answers(start):
    model, tokenizer = versions.load(start.model("sft"))
    read = rounding.conversations(model, tokenizer, 9)
    assert len(read) == 9
    asked = sets.development(sets.skills(None)[0], 1)[0]
    prompt = tokenizer.apply_chat_template(asked["messages"], tools=asked["tools"], add_generation_prompt=True, return_dict=False)
    assert read[0][: len(prompt)] == prompt and len(read[0]) > len(prompt)


def test_calibration_reads_what_the_model_makes_up_the_same_every_time(start):
    model, _ = versions.load(start.model("sft"))
    state = torch.get_rng_state()
    texts = rounding.made_up(model, 3)
    assert rounding.made_up(model, 3) == texts
    assert torch.equal(torch.get_rng_state(), state)
    assert len({tuple(text) for text in texts}) == 3
    assert {len(text) for text in texts} == {min(256, model.config.max_position_embeddings)}


def test_an_int8_version_is_no_parent(deployed):
    start, version = deployed
    message = f"{version.ref} holds int8 weights.*start from its parent sft/1 instead: --parent sft/1"
    with pytest.raises(LifecycleError, match=message):
        run(CONFIG, start.registry, parent=version)
    with pytest.raises(LifecycleError, match=message):
        versions.load(version)
    with pytest.raises(LifecycleError, match=message):
        versions.require_stage(version, "rlhf", ("sft",))


def test_our_own_decoder_says_that_it_is_not_for_it(deployed):
    with pytest.raises(LifecycleError, match="int8.*load_causal_lm"):
        load_checkpoint(deployed[1].path)


def test_the_first_one_is_served_and_the_same_work_is_not_done_again(deployed):
    start, version = deployed
    assert start.registry.aliases()["production"] == version.ref
    assert run(CONFIG, start.registry, parent=start.registry.load("sft/1")) == version


def test_too_much_lost_publishes_nothing(start):
    with pytest.raises(LifecycleError, match=r"differs by .* nats per token.*--target bf16, or a higher --set tolerance=.*; nothing was published"):
        run(replace(CONFIG, tolerance=1e-9), start.registry, parent=start.model("sft"))
    assert not start.registry.versions("deploy") and not start.workspaces()


@pytest.mark.parametrize(
    ("key", "value", "reason"), [("model_type", "gemma2", '"gemma2" is not one of llama'), ("hidden_act", "gelu", '"gelu" is not silu')]
)
def test_a_family_that_cannot_be_folded_is_refused(start, key, value, reason):
    model, tokenizer = versions.load(start.model("sft"))
    setattr(model.config, key, value)
    with pytest.raises(LifecycleError, match=f"sft/1 cannot be rounded to int8.*{reason}.*--target bf16"):
        rounding.to_int8(model, tokenizer, 2, 1, "sft/1")


def test_the_command_takes_it(start, monkeypatch):
    start.model("sft")
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    settings = ["--target", "int8", "--set", "prompts=9", "--set", "report_limit=1", "--set", "calibration=7"]
    done = CliRunner().invoke(main, ["deploy", *settings, "--parent", "sft/1"])
    assert done.exit_code == 0, done.output
    assert is_int8(start.registry.load("deploy/1").path)
