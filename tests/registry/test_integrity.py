"""What is damaged is named and never loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion


@pytest.fixture
def family(registry: ModelRegistry, write) -> ModelRegistry:
    """A diamond with a tail: deploy/1 from rlhf/1 and sft/1, rlhf/1 from sft/1, sft/1 from pretrain/1."""
    pretrain = registry.publish("pretrain", write, data=DataRef("world", "d" * 64))
    sft = registry.publish("sft", write, parents=[pretrain])
    rlhf = registry.publish("rlhf", write, parents=[sft])
    registry.publish("deploy", write, parents=[sft, rlhf])
    return registry


def edit(version: ModelVersion, **changes) -> None:
    file = version.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_any_changed_byte_is_noticed_and_its_file_named(family: ModelRegistry) -> None:
    version = family.load("sft/1")
    files = sorted(version.manifest.files)

    @settings(deadline=None, max_examples=60)
    @given(st.sampled_from(files), st.integers(0, 10**6), st.integers(1, 255))
    def check(name: str, position: int, flip: int) -> None:
        file = version.path / name
        original = file.read_bytes()
        damaged = bytearray(original)
        damaged[position % len(damaged)] ^= flip
        file.write_bytes(damaged)
        assert [problem.split(" ")[0] for problem in family.verify("sft/1")] == [name]
        with pytest.raises(LifecycleError, match=f"sft/1 is damaged: {name} is corrupt"):
            family.load("sft/1")
        file.write_bytes(original)

    check()
    assert family.load("sft/1") == version


def test_missing_extra_and_cut_files_are_all_named(family: ModelRegistry) -> None:
    path = family.resolve("sft/1").path
    (path / "config.json").unlink()
    (path / "notes.txt").write_text("mine")
    (path / "model.safetensors").write_bytes(b"cut")
    found = family.verify("sft/1")
    assert found[0] == "config.json is missing" and found[2] == "notes.txt is not in the manifest"
    assert found[1].startswith("model.safetensors is corrupt: 3 bytes, the manifest says ")
    with pytest.raises(LifecycleError) as error:
        family.load("sft/1")
    assert all(problem in str(error.value) for problem in found)


def test_a_file_replaced_by_a_link_is_not_followed(family: ModelRegistry) -> None:
    weights = family.resolve("sft/1").path / "model.safetensors"
    weights.rename(family.root / "outside")
    weights.symlink_to(family.root / "outside")
    with pytest.raises(LifecycleError, match="model.safetensors is a link"):
        family.load("sft/1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "manifest must be Manifest"),
        ("\xff", "Expecting value"),
        ('{"format_version": 99}', "format_version is 99, this code reads 1; update the package"),
        ('{"format_version": 1}', "missing or unknown field: commit, config"),
    ],
)
def test_a_corrupt_manifest_is_named(family: ModelRegistry, text: str, said: str) -> None:
    file = family.resolve("sft/1").path / "manifest.json"
    file.write_text(text)
    for use in (family.resolve, family.load, family.lineage):
        with pytest.raises(LifecycleError) as error:
            use("sft/1")
        assert str(file) in str(error.value) and said in str(error.value)
    assert len(family.verify("sft/1")) == 1 and family.verify("rlhf/1")
    assert family.verify("pretrain/1") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": "seven"}, "manifest.seed must be int"),
        ({"seed": True}, "manifest.seed must be int"),
        ({"parents": ["pretrain/1"]}, r"manifest.parents\[0\] must be ParentRef"),
        ({"files": {"a": {"sha256": "00", "size": 1.5}}}, "manifest.files.a.size must be int"),
        ({"data": {"id": "world"}}, "manifest.data has a missing or unknown field: detail, hash"),
        ({"colour": "red"}, "missing or unknown field: colour"),
        ({"number": 2}, "it describes sft/2; versions cannot be renamed"),
    ],
)
def test_a_manifest_with_a_wrong_field_says_which(family: ModelRegistry, change: dict, said: str) -> None:
    edit(family.resolve("sft/1"), **change)
    with pytest.raises(LifecycleError, match=said):
        family.resolve("sft/1")


def test_lineage_reaches_the_data_through_every_parent_once(family: ModelRegistry) -> None:
    chain = family.lineage("deploy@latest")
    assert [version.ref for version in chain] == ["deploy/1", "rlhf/1", "sft/1", "pretrain/1"]
    assert chain[-1].manifest.data.hash == "d" * 64
    place = {version.ref: index for index, version in enumerate(chain)}
    assert all(place[version.ref] < place[parent.ref] for version in chain for parent in version.manifest.parents)


def test_changing_the_past_breaks_the_chain(family: ModelRegistry) -> None:
    pretrain = family.resolve("pretrain/1")
    edit(pretrain, metrics={"loss": 0.0})
    assert family.resolve("pretrain/1").manifest.metrics == {"loss": 0.0}, "on its own it looks sound"
    with pytest.raises(LifecycleError, match="broken lineage: pretrain/1 is not what sft/1 was made from"):
        family.lineage("deploy/1")
    assert len(family.verify("sft/1")) == 1 and family.verify("deploy/1") == []


def test_a_missing_parent_is_named_and_the_child_still_loads(family: ModelRegistry) -> None:
    family.resolve("pretrain/1").path.rename(family.root / "gone")
    with pytest.raises(LifecycleError, match="sft/1 was made from pretrain/1, which .* no longer has"):
        family.lineage("rlhf/1")
    assert family.load("sft/1").ref == "sft/1"


def test_differences_are_told_by_subject(registry: ModelRegistry, write) -> None:
    def with_tokenizer(directory: Path) -> None:
        write(directory, 2.0)
        (directory / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 1}, "merges": []}, "added_tokens": []}')

    registry.publish(
        "sft", write, config={"lr": 1, "model": {"layers": 2}}, metrics={"loss": 2.0}, data=DataRef("world", "aa")
    )
    registry.publish(
        "sft", with_tokenizer, config={"lr": 1, "model": {"layers": 4}}, metrics={"loss": 1.0}, data=DataRef("world", "bb")
    )
    difference = registry.diff("sft/1", "sft/2")
    assert difference and (difference.a, difference.b) == ("sft/1", "sft/2")
    assert difference.config == {"model.layers": (2, 4)}
    assert difference.data == {"hash": ("aa", "bb")}
    assert difference.metrics == {"loss": (2.0, 1.0)}
    assert difference.files.keys() == {"README.md", "model.safetensors", "tokenizer.json"}
    assert difference.files["tokenizer.json"][0] is None
    assert difference.tokenizer == {"vocabulary_size": (0, 2)}
    assert difference.weights.keys() == {"content", "weight"}
    assert difference.weights["content"] == (registry.resolve("sft/1").content, registry.resolve("sft/2").content)
    assert not registry.diff("sft/1", "sft/1")


def test_equal_weights_have_equal_content_whatever_else_differs(registry: ModelRegistry, write) -> None:
    for value, seconds in ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0)):
        registry.publish("sft", lambda directory, value=value: write(directory, value), config={"s": seconds}, seconds=seconds)
    contents = [version.content for version in registry.versions("sft")]
    assert contents[0] == contents[1] != contents[2]
    assert not registry.diff("sft/1", "sft/2").weights and registry.diff("sft/1", "sft/3").weights
    registry.publish("words", lambda directory: (directory / "words.txt").write_text("a"))
    assert registry.resolve("words/1").content is None


def test_only_the_tensors_that_differ_are_named(registry: ModelRegistry) -> None:
    from safetensors.numpy import save_file

    for value in (1.0, 2.0):
        tensors = {"same": np.ones((2, 2), np.float32), "other": np.full(3, value, np.float16)}
        registry.publish("sft", lambda directory, tensors=tensors: save_file(tensors, directory / "model.safetensors"))
    changed = registry.diff("sft/1", "sft/2").weights
    assert changed.keys() == {"content", "other"} and changed["other"][0].endswith("F16 [3]")
