"""Who gets the native backend, who does not, and what the log says of it."""

from __future__ import annotations

import logging
import subprocess
import sys
from contextlib import closing

import pytest
import torch
from transformers import Gemma2Config, LlamaConfig

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import read_config
from lifecycle.model.tokenizer import train_tokenizer
from serving.application.engine import EngineLoop
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure import pool_size
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import load_backend
from serving.infrastructure.native import library
from serving.infrastructure.native.backend import PHASES, NativeBackend
from serving.infrastructure.native.description import RotaryTable, describe
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

from .models import CONFIGS, SIZE, build

POOL = {"num_blocks": 16, "device": "cpu"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    directory = tmp_path_factory.mktemp("llama")
    build(CONFIGS["llama"]()).save_pretrained(directory)
    return directory


def test_a_model_of_the_family_gets_the_kernels(llama, caplog):
    with caplog.at_level(logging.INFO, "serving"):
        assert isinstance(load_backend(llama, ServingConfig(**POOL)), NativeBackend)
    assert library.best_level().name in caplog.text


@pytest.mark.parametrize(("dtype", "bytes_of_a_weight"), [("auto", 2), ("int8", 1)])
def test_keys_and_values_get_half_of_what_the_weights_leave(llama, monkeypatch, dtype, bytes_of_a_weight):
    free = 2**20
    monkeypatch.setattr(pool_size, "free_bytes", lambda device: free)
    weights = bytes_of_a_weight * build(CONFIGS["llama"]()).num_parameters()
    backend = load_backend(llama, ServingConfig(device="cpu", dtype=dtype))
    assert free // 8 < len(backend._pool) <= (free - weights) // 2


def test_a_start_with_the_kernels_does_not_wait_for_transformers_models(llama, tmp_path):
    """Nor for the compiler that they bring: that is most of the time until a server answers."""
    for file in llama.iterdir():
        (tmp_path / file.name).symlink_to(file)
    train_tokenizer(["hello"], 300).save_pretrained(tmp_path)
    code = f"""
import sys
from serving.composition import ServingConfig, build_engine
build_engine({str(tmp_path)!r}, ServingConfig(num_blocks=16, device="cpu")).engine.close()
print({{"transformers.modeling_utils", "transformers.models.auto", "torch._dynamo", "sympy", "datasets"}} & set(sys.modules))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


@pytest.mark.parametrize("name", CONFIGS)
def test_the_config_as_written_describes_the_same_model(name, tmp_path):
    config = CONFIGS[name]()
    config.save_pretrained(tmp_path)
    read = read_config(tmp_path)
    assert describe(read) == describe(config)
    assert torch.equal(RotaryTable(read).up_to(100), RotaryTable(config).up_to(100))


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [({"dtype": "float32"}, "float32 was asked for"), ({"block_size": 16}, "blocks of 32 tokens")],
)
def test_what_the_kernels_cannot_do_goes_to_torch_or_is_refused_by_name(llama, caplog, knobs, reason):
    with caplog.at_level(logging.INFO, "serving"):
        assert isinstance(load_backend(llama, ServingConfig(**POOL, **knobs)), PackedTorchBackend)
    assert reason in caplog.text
    with pytest.raises(LifecycleError, match=f"{reason}.*--backend auto"):
        load_backend(llama, ServingConfig(**POOL, **knobs, backend="native"))


def test_without_kernels_torch_takes_over_and_says_why(llama, caplog, monkeypatch):
    monkeypatch.setattr(library, "cpu_flags", frozenset)
    with caplog.at_level(logging.INFO, "serving"):
        assert isinstance(load_backend(llama, ServingConfig(**POOL)), PackedTorchBackend)
    assert "has none of" in caplog.text


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(**{**SIZE, "pad_token_id": 0}), '"gemma2" is not one of'),
        (LlamaConfig(**{**SIZE, "head_dim": 24}), "head_dim 24"),
        (LlamaConfig(**SIZE, hidden_act="gelu"), "gelu"),
        (LlamaConfig(**SIZE, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
    ],
)
def test_others_are_told_what_is_different(config, reason, tmp_path):
    build(config).save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match=reason):
        load_backend(tmp_path, ServingConfig(**POOL, backend="native"))


def test_a_tensor_too_many_is_not_ignored(tmp_path):
    model = build(CONFIGS["llama"]())
    weights = {**model.state_dict(), "model.layers.0.self_attn.sinks": torch.zeros(6)}
    with pytest.raises(Exception, match="sinks"):
        NativeBackend(model.config, weights, num_blocks=4)
    del weights["model.layers.0.self_attn.sinks"], weights["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(Exception, match="layers.1.mlp.up_proj"):
        NativeBackend(model.config, weights, num_blocks=4)


@pytest.mark.parametrize("backend", ["native", "packed"])
def test_weights_that_are_not_numbers_are_named_at_load(tmp_path, backend):
    model = build(CONFIGS["llama"]())
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    model.save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match="layers.1.mlp.up_proj.weight has values that are not numbers"):
        load_backend(tmp_path, ServingConfig(**POOL, backend=backend))


def test_the_parts_of_all_steps_add_up_to_the_whole(llama):
    """What the engine says of where its time went, down to the phases of the kernels."""
    config = ServingConfig(**POOL)
    loop = EngineLoop(load_backend(llama, config), VectorSampler(), config, context_length=256)
    with closing(loop.start()) as engine:
        stream = engine.submit(Request("a", tuple(range(40)), SamplingParams(temperature=0.0, max_tokens=8)))
        while not any(isinstance(event, Finished) for event in stream.next(5.0)):
            pass
        engine.pause()  # until the last step has been booked
        stats = engine.stats()
    assert {f"model: {phase}" for phase in PHASES} < stats.parts.keys()
    assert min(stats.parts.values()) >= 0 and stats.parts["model: down"] > 0
    assert sum(stats.parts.values()) == pytest.approx(stats.step_seconds)
