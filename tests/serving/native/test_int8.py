"""Int8 by the kernels, from an artefact or rounded at load, is int8 by torch; folding alone changes nothing."""

from __future__ import annotations

import copy
import logging

import pytest
import torch

from lifecycle.deploy.smoothing import activation_maxima, smooth
from lifecycle.model.directory import load_config
from lifecycle.model.int8 import Int8Linear, round_linears
from lifecycle.model.loading import save_int8
from serving.infrastructure.config import ServingConfig
from serving.infrastructure.loading import load_backend
from serving.infrastructure.native.backend import NativeBackend
from serving.infrastructure.native.library import levels_here
from serving.infrastructure.native.weights import Checkpoint
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.torch_backend import PackedTorchBackend

from .models import CONFIGS, build
from .test_parity import LENGTHS, native, reference, rms, slices, tables, tokens

WHOLE = [(i, 0, length) for i, length in enumerate(LENGTHS)]


def smoothed(name: str):
    model = build(CONFIGS[name]())
    with torch.no_grad():  # an outlier among the channels, as trained models have them
        model.model.layers[0].input_layernorm.weight[3] = 40
        model.model.layers[1].post_attention_layernorm.weight[5] = 40
    folded = copy.deepcopy(model)
    smooth(folded, activation_maxima(folded, tokens(seed=9)))
    return model, folded


@pytest.mark.parametrize("name", CONFIGS)
def test_folding_alone_changes_no_logit(name):
    model, folded = smoothed(name)
    changed = [
        key for key, weight in model.state_dict().items() if not torch.equal(weight, folded.state_dict()[key])
    ]
    assert len([key for key in changed if key.endswith("proj.weight")]) == 14
    exact, same = (torch.cat(reference(each, tokens())) for each in (model, folded))
    assert (exact - same).abs().max() <= 1e-4


@pytest.mark.parametrize("name", ["llama", "llama, biases, head_dim 80"])
def test_folding_brings_int8_nearer(name):
    model, folded = smoothed(name)
    exact = torch.cat(reference(model, tokens()))
    for each in (model, folded):
        round_linears(each)
    plain, smooth_ = (rms([torch.cat(reference(each, tokens())) - exact]) for each in (model, folded))
    assert smooth_ < plain


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
@pytest.mark.parametrize("name", CONFIGS)
def test_the_kernels_are_as_far_from_fp32_as_torch_in_int8(name, level, tmp_path):
    model = build(CONFIGS[name]())
    exact = torch.cat(reference(model, tokens()))
    round_linears(model)
    by_torch = torch.cat(reference(model, tokens()))
    save_int8(model, tmp_path)
    backend = NativeBackend(load_config(tmp_path), Checkpoint(tmp_path), num_blocks=48, level=level)
    ours = backend.execute(slices(WHOLE, tokens(), tables()))
    allowed = rms([by_torch - exact])
    assert rms([ours - exact]) <= 1.2 * allowed
    assert rms([ours - by_torch]) <= allowed  # bf16 in between turns some activations to the next integer


@pytest.mark.parametrize("level", levels_here(), ids=lambda level: level.name)
def test_rounding_at_load_is_the_artefact_bit_for_bit_and_leaves_the_head(level):
    model = build(CONFIGS["llama, tied"]())
    at_load = native(model, level=level, int8=True)
    round_linears(model)
    stored = native(model, level=level)
    step = slices(WHOLE, tokens(), tables())
    assert torch.equal(at_load.execute(step), stored.execute(step))


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    directory = tmp_path_factory.mktemp("int8")
    model = build(CONFIGS["llama"]())
    round_linears(model)
    save_int8(model, directory)
    return directory


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    directory = tmp_path_factory.mktemp("floats")
    build(CONFIGS["llama"]()).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("dtype", ["auto", "float32", "bfloat16", "int8"])
@pytest.mark.parametrize(("backend", "kind"), [("packed", PackedTorchBackend), ("padded", PaddedTorchBackend)])
def test_torch_serves_an_artefact_in_int8_whatever_surrounds_it(artefact, backend, kind, dtype, caplog):
    with caplog.at_level(logging.INFO, "serving"):
        loaded = load_backend(artefact, ServingConfig(num_blocks=16, device="cpu", backend=backend, dtype=dtype))
    assert isinstance(loaded, kind) and "int8 as stored" in caplog.text
    model = loaded._lm.model
    assert isinstance(model.model.layers[0].mlp.up_proj, Int8Linear) and not isinstance(model.lm_head, Int8Linear)
    if dtype in ("float32", "bfloat16"):
        assert model.dtype == getattr(torch, dtype)


def test_the_kernels_serve_an_artefact_by_default(artefact, caplog):
    with caplog.at_level(logging.INFO, "serving"):
        assert isinstance(load_backend(artefact, ServingConfig(num_blocks=16, device="cpu")), NativeBackend)
    assert "int8 as stored" in caplog.text


@pytest.mark.parametrize("backend", ["native", "packed", "padded"])
def test_a_model_in_floating_point_is_rounded_at_load_if_asked_for(floats, artefact, backend, caplog):
    with caplog.at_level(logging.INFO, "serving"):
        config = ServingConfig(num_blocks=32, device="cpu", backend=backend, dtype="int8")
        asked, stored = (load_backend(directory, config) for directory in (floats, artefact))
    assert "int8, rounded at load" in caplog.text
    step = slices([(1, 0, 5)], tokens(), [[], [0, 1, 2]])
    assert torch.equal(asked.execute(step), stored.execute(step))


def test_rounded_at_load_takes_new_weights_in_floating_point(floats):
    loaded = load_backend(floats, ServingConfig(num_blocks=16, device="cpu", backend="packed", dtype="int8"))
    model = loaded._lm.model
    other = build(CONFIGS["llama"](), seed=1)
    loaded.update_weights(other.state_dict())
    round_linears(other)
    assert torch.equal(model.model.layers[1].mlp.up_proj.weight, other.model.layers[1].mlp.up_proj.weight)
