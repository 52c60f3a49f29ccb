"""What a version records, and what cannot become one."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef, Manifest, ModelRegistry, fingerprint
from lifecycle.registry.canonical import canonical_json, plain


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    path: Path = Path("data")


def test_a_version_remembers_everything_it_was_told(registry: ModelRegistry, write) -> None:
    parent = registry.publish("pretrain", write)
    version = registry.publish(
        "chat",
        write,
        stage="sft",
        parents=[parent],
        config=Config(),
        preset="tiny",
        data=DataRef("world:chat", "ab" * 32, {"examples": np.int64(12)}),
        metrics={"accuracy": np.float32(0.5), "loss": float("nan")},
        seed=7,
        fingerprint="f" * 64,
        seconds=1.23456,
        cost={"tokens": 1000},
        card="Answers *briefly*.",
    )
    read = ModelRegistry(registry.root).load("chat/1")
    assert read == version and read.ref == "chat/1" and read.path == registry.root / "chat" / "1"
    manifest = read.manifest
    assert manifest.stage == "sft" and manifest.preset == "tiny" and manifest.seed == 7 and manifest.seconds == 1.235
    assert manifest.config == {"lr": 1e-3, "betas": [0.9, 0.95], "path": "data"}
    assert manifest.data == DataRef("world:chat", "ab" * 32, {"examples": 12})
    assert manifest.metrics == {"accuracy": 0.5, "loss": "nan"} and manifest.cost == {"tokens": 1000}
    assert [(link.ref, link.manifest) for link in manifest.parents] == [("pretrain/1", parent.manifest_hash)]
    assert manifest.libraries.keys() >= {"python", "torch", "transformers"}
    assert set(manifest.files) == {"model.safetensors", "config.json", "README.md"}
    assert read.size == sum(file.stat().st_size for file in read.path.iterdir() if file.name != "manifest.json")
    card = (read.path / "README.md").read_text()
    assert "# chat/1" in card and "Answers *briefly*." in card and "world:chat" in card and "| lr | 0.001 |" in card


def test_the_root_is_the_argument_else_the_environment_else_here(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIFECYCLE_REGISTRY", raising=False)
    assert ModelRegistry().root == tmp_path / "registry"
    monkeypatch.setenv("LIFECYCLE_REGISTRY", "elsewhere")
    assert ModelRegistry().root == tmp_path / "elsewhere"
    assert ModelRegistry("argument").root == tmp_path / "argument"
    assert ModelRegistry().names() == [] and not (tmp_path / "elsewhere").exists(), "reading makes no directories"


@pytest.mark.parametrize("name", ["", "Sft", "a/b", "a@b", ".hidden", "../up", "a b", "x" * 65, "aliases.jsonl", "a-"])
def test_names_that_could_not_be_a_directory_a_url_and_an_alias(registry: ModelRegistry, write, name: str) -> None:
    with pytest.raises(LifecycleError, match="cannot be a model name"):
        registry.publish(name, write)


def test_an_empty_directory_and_links_are_no_version(registry: ModelRegistry, tmp_path: Path) -> None:
    with pytest.raises(LifecycleError, match="left empty"):
        registry.publish("sft", lambda directory: None)
    (tmp_path / "elsewhere").write_text("not in the version")
    with pytest.raises(LifecycleError, match="link"):
        registry.publish("sft", lambda directory: (directory / "config.json").symlink_to(tmp_path / "elsewhere"))
    assert registry.names() == []


def test_a_parent_that_vanished_or_changed_stops_the_child(registry: ModelRegistry, write) -> None:
    parent = registry.publish("pretrain", write)
    (parent.path / "manifest.json").write_text((parent.path / "manifest.json").read_text() + "\n")
    with pytest.raises(LifecycleError, match="pretrain/1 is not what sft/1 was made from"):
        registry.publish("sft", write, parents=[parent])
    os.rename(parent.path, registry.root / "gone")
    with pytest.raises(LifecycleError, match="made from pretrain/1, which .* no longer has"):
        registry.publish("sft", write, parents=[parent])
    assert registry.names() == []


def test_nested_files_are_recorded_and_a_card_or_manifest_that_came_along_is_replaced(registry: ModelRegistry) -> None:
    def write(directory: Path) -> None:
        (directory / "processor").mkdir()
        for path in ("processor/manifest.json", "README.md", "manifest.json"):
            (directory / path).write_text("theirs")

    version = registry.publish("sft", write)
    assert set(version.manifest.files) == {"processor/manifest.json", "README.md"}
    assert "theirs" not in (version.path / "README.md").read_text() and registry.verify("sft/1") == []


def test_whoever_may_read_the_registry_may_read_the_weights(registry: ModelRegistry, write) -> None:
    def private(directory: Path) -> None:
        write(directory)
        (directory / "model.safetensors").chmod(0o600)

    version = registry.publish("sft", private)
    modes = {stat.S_IMODE(file.stat().st_mode) for file in version.path.iterdir()}
    assert modes == {stat.S_IMODE(version.path.stat().st_mode) & 0o666}


def test_find_returns_the_version_with_a_fingerprint(registry: ModelRegistry, write) -> None:
    for mark in ("a", "b", "a", "c"):
        registry.publish("sft", write, fingerprint=mark)
    assert registry.find("sft", "a").ref == "sft/1" and registry.find("sft", "c").ref == "sft/3"
    assert registry.find("sft", "d") is None and registry.find("rlhf", "a") is None


def test_a_fingerprint_depends_on_everything_that_decides_and_on_nothing_else(registry: ModelRegistry, write) -> None:
    parent, other = registry.publish("pretrain", write), registry.publish("pretrain", write)
    data = DataRef("world", "aa")
    same = fingerprint("sft", Config(), [parent], data)
    assert same == fingerprint("sft", {"path": "data", "betas": [0.9, 0.95], "lr": 0.001}, [parent], data)
    assert same == fingerprint("sft", Config(), [parent], DataRef("world", "aa", {"told": "later"}))
    different = [
        fingerprint("rlhf", Config(), [parent], data),
        fingerprint("sft", Config(lr=2e-3), [parent], data),
        fingerprint("sft", Config(), [other], data),
        fingerprint("sft", Config(), [parent, other], data),
        fingerprint("sft", Config(), [parent], DataRef("world", "bb")),
        fingerprint("sft", Config(), [parent]),
    ]
    assert len({same, *different}) == 7


def test_a_workspace_outlives_its_process_and_is_gone_when_discarded(registry: ModelRegistry) -> None:
    place = registry.workspace("sft", "0123456789abcdef")
    (place / "step-10.pt").write_text("state")
    assert place == registry.root / ".work" / "sft-0123456789ab"
    assert registry.workspace("sft", "0123456789abcdef") == place and (place / "step-10.pt").exists()
    assert registry.names() == []
    registry.discard_workspace("sft", "0123456789abcdef")
    registry.discard_workspace("sft", "0123456789abcdef")
    assert not place.exists()


def test_a_workspace_of_work_that_is_done_is_gone_when_the_work_is_found(registry: ModelRegistry) -> None:
    """Killed between publishing and discarding."""
    place, other = registry.workspace("sft", "a" * 64), registry.workspace("sft", "b" * 64)
    assert registry.find("adapter", "a" * 64) is None and place.exists()
    registry.publish("adapter", lambda directory: (directory / "weights").write_text("w"), stage="sft", fingerprint="a" * 64)
    assert registry.find("adapter", "a" * 64).ref == "adapter/1"
    assert not place.exists() and other.exists()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=4), inner),
    max_leaves=8,
)


@settings(deadline=None, max_examples=40)
@given(values)
def test_plain_values_survive_json_and_have_one_spelling(value) -> None:
    assert json.loads(canonical_json(value)) == plain(value) == plain(plain(value))


@settings(deadline=None, max_examples=40)
@given(config=st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values), seed=st.none() | st.integers())
def test_a_manifest_survives_its_file(config: dict, seed: int | None) -> None:
    manifest = Manifest(
        format_version=1, name="sft", stage="sft", number=1, parents=(), files={}, config=plain(config), preset=None,
        data=None, metrics={}, seed=seed, fingerprint=None, libraries={}, commit=None, created="", seconds=None, cost={},
    )  # fmt: skip
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_what_a_manifest_cannot_hold_is_refused_before_any_work(registry: ModelRegistry) -> None:
    with pytest.raises(TypeError, match="cannot hold a function"):
        registry.publish("sft", lambda directory: pytest.fail("work was done"), config={"schedule": lambda step: step})


def test_the_latest_is_the_one_with_the_highest_number_whatever_the_clock_says(registry: ModelRegistry, write, monkeypatch) -> None:
    registry.publish("sft", write)

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2001, 1, 1, tzinfo=tz)

    monkeypatch.setattr("lifecycle.registry.publishing.datetime", Yesterday)
    second = registry.publish("sft", write)
    assert second.manifest.created.startswith("2001") and registry.resolve("sft@latest").ref == second.ref == "sft/2"
    assert registry.latest("sft").ref == "sft/2"


def test_of_two_that_do_the_same_work_at_once_the_first_publishes(registry):
    def write(directory, text):
        (directory / "weights").write_text(text)

    def slower(directory):
        registry.publish("sft", lambda other: write(other, "first"), fingerprint="a" * 64)
        registry.publish("sft", lambda other: write(other, "other work"), fingerprint="b" * 64)
        write(directory, "second")

    late = registry.publish("sft", slower, fingerprint="a" * 64)
    assert late.ref == "sft/1" and (late.path / "weights").read_text() == "first"
    assert [version.ref for version in registry.versions("sft")] == ["sft/1", "sft/2"]


def test_one_process_at_a_time_works_in_a_workspace(registry):
    work = f"from lifecycle.registry import ModelRegistry as R; R({str(registry.root)!r}).workspace('sft', 'a' * 64); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(LifecycleError, match="another process is doing this very work"):
            registry.workspace("sft", "a" * 64)
        registry.workspace("sft", "b" * 64)
        other.kill()
    assert registry.workspace("sft", "a" * 64) == registry.workspace("sft", "a" * 64)
