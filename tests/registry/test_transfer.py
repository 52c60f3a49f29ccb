"""Checkpoints come in and go out whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.registry.sources import import_source


@pytest.fixture
def source(checkpoint: Path, tmp_path: Path) -> Path:
    return shutil.copytree(checkpoint, tmp_path / "tiny-llama")


def test_an_imported_checkpoint_is_the_same_model_and_opens_anywhere(registry: ModelRegistry, source: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    version = registry.import_directory(source, "tiny")
    assert version.ref == "tiny/1" and version.manifest.stage == "import" and version.manifest.parents == ()
    assert version.manifest.data.id == f"imported:{source}" and version.manifest.data.hash == version.manifest.fingerprint
    original = AutoModelForCausalLM.from_pretrained(source).state_dict()
    for place in (registry.load("tiny").path, registry.export("tiny/1", source.parent / "out")):
        loaded = AutoModelForCausalLM.from_pretrained(place).state_dict()
        assert loaded.keys() == original.keys()
        assert all(torch.equal(loaded[key], original[key]) for key in original)


def test_the_same_checkpoint_is_imported_once(registry: ModelRegistry, source: Path) -> None:
    first = registry.import_directory(source, "tiny")
    assert registry.import_directory(shutil.copytree(source, source.parent / "copy"), "tiny") == first
    (source / "generation_config.json").write_text("{}")
    assert registry.import_directory(source, "tiny").ref == "tiny/2"


def test_out_and_in_again_are_the_same_files(registry: ModelRegistry, write, tmp_path: Path) -> None:
    made = registry.publish("sft", write)
    exported = registry.export("sft/1", tmp_path / "deep" / "out")
    assert sorted(file.name for file in exported.iterdir()) == sorted(file.name for file in made.path.iterdir())
    back = ModelRegistry(tmp_path / "other").import_directory(exported, "sft")
    for name in ("model.safetensors", "config.json"):
        assert back.manifest.files[name] == made.manifest.files[name]
    assert back.manifest.files.keys() == made.manifest.files.keys()


def test_a_codec_inside_goes_along(registry: ModelRegistry, write, tmp_path: Path) -> None:
    def speaker(directory: Path, sound: str) -> None:
        write(directory)
        (directory / "codec").mkdir()
        (directory / "codec" / "config.json").write_text(json.dumps({"sound": sound}))
        (directory / "codec" / "notes.md").write_text("not taken")

    other, back = ModelRegistry(tmp_path / "other"), []
    for number, sound in enumerate(("a", "b"), start=1):
        made = registry.publish("speak", lambda directory, sound=sound: speaker(directory, sound))
        back.append(other.import_directory(registry.export(made.ref, tmp_path / str(number)), "speak"))
        assert back[-1].manifest.files["codec/config.json"] == made.manifest.files["codec/config.json"]
        assert "codec/notes.md" not in back[-1].manifest.files and other.verify(back[-1].ref) == []
    assert [one.ref for one in back] == ["speak/1", "speak/2"], "another codec is another model"


def test_export_refuses_what_is_there_and_what_is_damaged(registry: ModelRegistry, write, tmp_path: Path) -> None:
    registry.publish("sft", write)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    with pytest.raises(LifecycleError, match="not an empty directory"):
        registry.export("sft/1", tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert registry.export("sft/1", tmp_path / "empty") == tmp_path / "empty"
    (registry.resolve("sft/1").path / "config.json").write_text("{}")
    with pytest.raises(LifecycleError, match="damaged"):
        registry.export("sft/1", tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "registry"]


def test_a_directory_that_is_no_checkpoint_says_why(registry: ModelRegistry, source: Path) -> None:
    with pytest.raises(LifecycleError, match="no such directory"):
        registry.import_directory(source / "nowhere", "tiny")
    weights = source / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-10])
    with pytest.raises(LifecycleError, match="model.safetensors is corrupt"):
        registry.import_directory(source, "tiny")
    weights.rename(source / "pytorch_model.bin")
    with pytest.raises(LifecycleError, match="pickles, .*; convert them to safetensors"):
        registry.import_directory(source, "tiny")
    (source / "pytorch_model.bin").unlink()
    with pytest.raises(LifecycleError, match="neither model.safetensors nor model.safetensors.index.json"):
        registry.import_directory(source, "tiny")
    (source / "config.json").write_text("{")
    with pytest.raises(LifecycleError, match="config.json is not JSON"):
        registry.import_directory(source, "tiny")
    (source / "config.json").unlink()
    with pytest.raises(LifecycleError, match="has no config.json"):
        registry.import_directory(source, "tiny")
    assert registry.names() == []


def test_shards_that_an_index_names_must_be_there(registry: ModelRegistry, source: Path) -> None:
    (source / "model.safetensors").rename(source / "model-00001-of-00002.safetensors")
    index = source / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}))
    with pytest.raises(LifecycleError, match="model-00002-of-00002.safetensors, .* is missing"):
        registry.import_directory(source, "tiny")
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}))
    assert "model-00001-of-00002.safetensors" in registry.import_directory(source, "tiny").manifest.files


def test_pickles_and_hidden_files_beside_the_weights_stay_outside(registry: ModelRegistry, source: Path) -> None:
    for name in ("training_args.bin", "optimizer.pt", ".gitattributes", "model.onnx", "modeling_custom.py"):
        (source / name).write_text("no")
    for name in ("LICENSE", "README.md", "merges.txt"):
        (source / name).write_text("yes")
    version = registry.import_directory(source, "tiny")
    taken = set(version.manifest.files) - {"config.json", "generation_config.json", "model.safetensors"}
    assert taken == {"LICENSE", "README.md", "README.upstream.md", "merges.txt"}
    assert (version.path / "README.upstream.md").read_text() == "yes"


def test_sources_are_told_apart_by_how_they_are_written(registry: ModelRegistry, source: Path, monkeypatch) -> None:
    said: list[str] = []
    assert import_source(registry, str(source), say=said.append).ref == "tiny-llama/1"
    assert import_source(registry, str(source), say=said.append).ref == "tiny-llama/1"
    assert said[1].startswith("imported as tiny-llama/1") and said[-1].startswith("already imported as tiny-llama/1")
    with pytest.raises(LifecycleError, match="write smollm2, hf:ORG/NAME, or a directory that exists"):
        import_source(registry, "smolm2", say=said.append)
    with pytest.raises(LifecycleError, match="write hf:ORG/NAME"):
        import_source(registry, "hf:gpt2", say=said.append)
    with pytest.raises(LifecycleError, match="cannot be a model name"):
        import_source(registry, str(source), "Tiny!", say=said.append)


def test_a_hub_that_cannot_be_reached_is_one_clear_line(registry: ModelRegistry, tmp_path: Path) -> None:
    """In a process of its own: the hub client reads its environment when it is imported."""
    import os
    import subprocess
    import sys

    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "LIFECYCLE_REGISTRY": str(registry.root)}
    command = [sys.executable, "-c", "from lifecycle.cli import main; main()", "models", "import", "hf:nobody/nothing"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 2 and 'lifecycle: cannot download "nobody/nothing" from the hub' in result.stderr
    assert "Traceback" not in result.stderr
