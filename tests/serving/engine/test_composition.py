"""From a registry to answers: the wiring, with everything real and tiny."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig, MambaConfig, MambaForCausalLM

from lifecycle.config import override
from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.registry import ModelRegistry
from serving.composition import ServingConfig, build_catalog, build_engine
from serving.domain.errors import ModelNotFound
from serving.infrastructure.checkpoint import default_sampling
from serving.presentation.metrics import Metrics

from .support import VOCAB, collect, generate, request

CONFIG = ServingConfig(num_blocks=32, dtype="float32", device="cpu", max_num_seqs=2, max_num_batched_tokens=64)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    """A model whose vocabulary is far smaller than its tokenizer's would be in life; only tokens below it are used."""
    path = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(path)
    train_tokenizer(["hello"], 300).save_pretrained(path)
    GenerationConfig(do_sample=True, temperature=0.8, top_p=0.95, eos_token_id=0).save_pretrained(path)
    return path


@pytest.fixture
def registry(checkpoint, tmp_path):
    registry = ModelRegistry(tmp_path / "registry")
    registry.import_directory(checkpoint, "sft")
    registry.set_alias("production", "sft/1")
    return registry


def test_a_plain_directory_is_served(model, checkpoint):
    served = build_engine(checkpoint, CONFIG)
    try:
        assert served.name == served.version == checkpoint.name
        assert served.default_sampling == {"temperature": 0.8, "top_p": 0.95}
        assert served.tokenizer.context_length == 256
        assert collect(served.engine.submit(request("a", [1, 2, 3]))).tokens == generate(model, [1, 2, 3])
    finally:
        served.engine.close()


def test_a_version_answers_to_its_name_its_ref_and_its_aliases(registry):
    catalog = build_catalog(["production"], CONFIG, registry)
    (served,) = catalog.all()
    try:
        assert catalog.get("sft") is catalog.get("sft/1") is catalog.get("production") is served
        assert (served.version, served.aliases, served.lineage) == ("sft/1", ("production",), ("sft/1",))
        assert served.created > 1_600_000_000
        with pytest.raises(ModelNotFound, match="production, sft, sft/1"):
            catalog.get("gpt")
    finally:
        served.engine.close()


def test_two_versions_of_one_name_go_by_their_refs(registry):
    path = registry.load("sft/1").path
    registry.publish(
        "sft",
        lambda target: [
            (target / f.name).write_bytes(f.read_bytes())
            for f in path.iterdir()
            if f.name not in ("manifest.json", "README.md")
        ],
    )
    catalog = build_catalog(["sft/1", "sft/2", "production"], CONFIG, registry)
    try:
        assert [served.name for served in catalog.all()] == ["sft/1", "sft/2"]
    finally:
        for served in catalog.all():
            served.engine.close()


def test_a_damaged_version_is_not_served(registry):
    file = registry.load("sft/1").path / "model.safetensors"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(LifecycleError, match="damaged"):
        build_catalog(["sft/1"], CONFIG, registry)


def test_nothing_to_serve_and_no_model_are_named(tmp_path, checkpoint):
    with pytest.raises(LifecycleError, match="nothing to serve"):
        build_catalog([], CONFIG, ModelRegistry(tmp_path))
    for file in checkpoint.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(LifecycleError, match="no causal language model"):
        build_engine(tmp_path, CONFIG)


def test_settings_come_from_the_command_line_and_mistakes_are_named():
    assert override(CONFIG, {"max_num_seqs": "8", "num_blocks": "none"}).num_blocks is None
    for changes, message in [
        ({"policy": "statik"}, 'mean "static"'),
        ({"dtype": "int4"}, "choose one of auto"),
        ({"max_num_seqs": "0"}, "at least 1"),
        ({"max_num_batched_tokens": "1"}, "at least max_num_seqs"),
        ({"max_seqs": "1"}, 'mean "max_num_seqs"'),
    ]:
        with pytest.raises(LifecycleError, match=message):
            override(CONFIG, changes)
    with pytest.raises(LifecycleError, match="unknown device"):
        choose_device("abacus")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_one_line(checkpoint):
    with pytest.raises(LifecycleError, match='device "cuda:3" was asked for, but torch sees no GPU: use --set device=cpu') as error:
        build_engine(checkpoint, replace(CONFIG, device="cuda:3"))
    assert "\n" not in str(error.value)


def test_a_gpu_beyond_those_that_are_there_is_one_line(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda") == torch.device("cuda") and choose_device("cuda:1").index == 1
    with pytest.raises(LifecycleError, match='device "cuda:2" was asked for, but torch sees 2 GPUs, the last of which is cuda:1'):
        choose_device("cuda:2")


def test_a_model_that_wants_no_sampling_gets_none(tmp_path):
    assert default_sampling(tmp_path) == {}
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"do_sample": False, "temperature": 0.7, "max_new_tokens": 9})
    )
    assert default_sampling(tmp_path) == {"temperature": 0.0, "max_tokens": 9}


@pytest.fixture
def smaller(model, checkpoint, registry, tmp_path):
    """A draft model of one layer with the same tokenizer, as draft/1 of the same registry."""
    config = type(model.config)(**{**model.config.to_dict(), "num_hidden_layers": 1})
    path = tmp_path / "smaller"
    type(model)(config).save_pretrained(path)
    for file in checkpoint.glob("token*"):
        (path / file.name).write_bytes(file.read_bytes())
    registry.import_directory(path, "draft")
    return path


@pytest.mark.parametrize("knobs", [{"speculative": "ngram"}, {"speculative": "draft", "draft_model": "draft/1"}])
def test_a_served_model_is_guessed_for_as_asked(model, registry, smaller, knobs):
    (served,) = build_catalog(["production"], replace(CONFIG, **knobs), registry).all()
    with closing(served.engine) as engine:
        prompt = [1, 2, 3, 1, 2, 3, 1, 2]
        assert collect(engine.submit(request("a", prompt))).tokens == generate(model, prompt)
        page = Metrics().render([served])
        assert engine.stats().draft_tokens > 0
    for name in ("drafts", "draft_tokens", "accepted_tokens"):
        value = getattr(engine.stats(), name)
        assert f'serving:spec_decode_num_{name}_total{{model_name="sft"}} {value}' in page


def test_a_directory_can_be_the_draft_model(model, checkpoint, smaller):
    served = build_engine(checkpoint, replace(CONFIG, speculative="draft", draft_model=str(smaller)))
    with closing(served.engine) as engine:
        assert collect(engine.submit(request("a", [1, 2, 3]))).tokens == generate(model, [1, 2, 3])


def test_a_draft_model_that_is_missing_or_speaks_another_language_is_named(checkpoint, registry, smaller):
    def start(ref):
        build_catalog(["sft/1"], replace(CONFIG, speculative="draft", draft_model=ref), registry)

    with pytest.raises(LifecycleError, match='"drft/1".*draft'):
        start("drft/1")
    train_tokenizer(["another language"], 310).save_pretrained(smaller)
    with pytest.raises(LifecycleError, match="another vocabulary.*same tokenizer.*speculative=ngram"):
        start(str(smaller))


def test_a_model_that_cannot_step_back_is_not_guessed_for(checkpoint, tmp_path):
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
    for file in checkpoint.glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    MambaForCausalLM(MambaConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(LifecycleError, match="cannot take tokens back.*speculative=off"):
        build_engine(tmp_path, replace(CONFIG, speculative="ngram"))
    with pytest.raises(LifecycleError, match="draft_model .* cannot take wrong guesses back.*speculative=ngram"):
        build_engine(checkpoint, replace(CONFIG, speculative="draft", draft_model=str(tmp_path)))


def test_settings_of_speculation_that_make_no_sense_are_named():
    for changes, message in [
        ({"speculative": "medusa"}, "choose one of off, ngram, draft"),
        ({"speculative": "draft"}, "add --set draft_model=REF"),
        ({"draft_model": "sft/1"}, "add --set speculative=draft"),
        ({"prompt_lookup_min": "5"}, "at most prompt_lookup_max"),
        ({"prompt_lookup_min": "0"}, "at least 1"),
        ({"num_speculative_tokens": "0"}, "num_speculative_tokens must be at least 1"),
        ({"speculative_max_seqs": "0"}, "speculative_max_seqs must be at least 1"),
        ({"num_speculative_token": "1"}, 'mean "num_speculative_tokens"'),
    ]:
        with pytest.raises(LifecycleError, match=message):
            override(CONFIG, changes)
    with pytest.raises(LifecycleError, match="choose one of off, ngram, draft"):
        ServingConfig(speculative="medusa")
