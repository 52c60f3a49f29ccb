"""A registry in object storage keeps the promises of one on a disk: in memory, and in S3 as moto plays it."""

from __future__ import annotations

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.registry.remote import CLAIM, RemoteRegistry
from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig
from tests.serving.http.scripted_engine import Catalog

MACHINES = ("here", "there")


@pytest.fixture(scope="module")
def s3_server():
    """An S3 that listens on this machine."""
    pytest.importorskip("s3fs", reason="s3:// needs: pip install s3fs")
    moto = pytest.importorskip("moto.server", reason="moto, which plays S3, is not installed")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(params=["memory", "s3"])
def url(request, monkeypatch):
    name = f"bucket-{uuid.uuid4().hex}"
    if request.param == "s3":
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_server"))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        fsspec.filesystem("s3").mkdir(name)
    return f"{request.param}://{name}/models"


@pytest.fixture
def machine(url, tmp_path, monkeypatch):
    """Opens the registry as one of several machines would, each with a cache of its own."""

    def open_on(name: str) -> ModelRegistry:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        return ModelRegistry(url)

    return open_on


def objects(registry: ModelRegistry) -> list[str]:
    return sorted(registry.remote._files.find(registry.remote._root))


def test_what_one_machine_publishes_another_one_loads(machine, write):
    here, there = map(machine, MACHINES)
    assert there.refs() == [] and there.aliases() == {}
    parent = here.publish("pretrain", write, metrics={"loss": 2.5})
    here.publish("sft", lambda place: write(place, 2.0), parents=[there.load("pretrain/1")])
    here.set_alias("production", "sft/1", "better")
    loaded = there.load("production")
    assert loaded.manifest_hash == here.load("sft/1").manifest_hash and loaded.path != here.load("sft/1").path
    assert (loaded.path / "model.safetensors").read_bytes() == (here.load("sft/1").path / "model.safetensors").read_bytes()
    assert [version.ref for version in there.lineage("production")] == ["sft/1", parent.ref]
    assert there.verify("sft/1") == there.verify("pretrain/1") == []
    assert [(move.alias, move.target, move.reason) for move in there.alias_moves()] == [("production", "sft/1", "better")]
    assert there.find("sft", "nothing") is None
    assert "weight" in str(there.diff("pretrain/1", "sft/1").sections())
    assert there.publish("sft", write).ref == "sft/2" and here.latest("sft").ref == "sft/2"


def test_work_that_another_machine_has_done_is_found_with_its_files(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("tokenizer", write, fingerprint="abc")
    found = there.find("tokenizer", "abc")
    assert found.ref == "tokenizer/1" and (found.path / "model.safetensors").is_file()


def test_an_adapter_comes_with_its_base(machine, write):
    here, there = map(machine, MACHINES)
    base = here.publish("sft", write)
    here.publish("adapter", lambda place: (place / "adapter_config.json").write_text("{}"), parents=[base])
    loaded = there.load("adapter/1")
    assert (loaded.path.parents[1] / "sft" / "1" / "model.safetensors").is_file()


def test_a_publisher_that_dies_leaves_nothing_to_be_seen(machine, write, monkeypatch):
    here, there = map(machine, MACHINES)
    here.publish("sft", write)
    create = RemoteRegistry._create

    def die(self, path, content):
        if path.endswith("manifest.json"):
            raise KeyboardInterrupt
        return create(self, path, content)

    with monkeypatch.context() as patch:
        patch.setattr(RemoteRegistry, "_create", die)
        with pytest.raises(KeyboardInterrupt):
            here.publish("sft", write)
    assert any(path.endswith("sft/2/model.safetensors") for path in objects(here))
    for registry in (here, there):
        assert registry.refs() == ["sft/1"] and registry.latest("sft").ref == "sft/1"
    assert there.publish("sft", write).ref == "sft/3"  # the second one may still be on its way
    assert here.refs() == ["sft/1", "sft/3"]


def test_publishers_at_the_same_time_get_numbers_of_their_own(machine, write):
    registries = [machine(f"machine-{n}") for n in range(4)]
    threads = [threading.Thread(target=registry.publish, args=("sft", write)) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registries[0].refs() == [f"sft/{n}" for n in (1, 2, 3, 4)]
    assert all(registries[0].verify(ref) == [] for ref in registries[0].refs())


def test_of_two_that_move_an_alias_at_once_one_comes_after_the_other(machine, write):
    here, there = map(machine, MACHINES)
    for _ in range(3):
        here.publish("sft", write)
    here.set_alias("production", "sft/1")
    there.refs()
    here.set_alias("production", "sft/2")
    late = there.remote.move_alias("production", "sft/3", "")  # has not seen the move before it
    assert (late.source, late.target) == ("sft/2", "sft/3")
    moves = here.alias_moves()
    assert [(move.source, move.target) for move in moves] == [(None, "sft/1"), ("sft/1", "sft/2"), ("sft/2", "sft/3")]
    assert moves == there.alias_moves() and here.aliases() == {"production": "sft/3"}


def test_a_file_that_was_tampered_with_is_named_and_never_loaded(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("sft", write)
    (weights,) = (path for path in objects(here) if path.endswith("model.safetensors"))
    here.remote._files.pipe_file(weights, here.remote._files.cat_file(weights)[:-1] + b"!")
    with pytest.raises(LifecycleError, match="sft/1 is damaged: sft/1/model.safetensors"):
        there.load("sft/1")
    assert "damaged" in there.verify("sft/1")[0]
    assert here.load("sft/1").ref == "sft/1"  # fetched before


def test_files_are_fetched_once_and_two_versions_share_them(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("sft", write)
    here.publish("sft", write)
    first, second = there.load("sft/1"), there.load("sft/2")
    assert (first.path / "model.safetensors").samefile(second.path / "model.safetensors")
    for path in objects(here):
        if path.endswith("model.safetensors"):
            here.remote._files.rm_file(path)
    assert there.load("sft/1").ref == "sft/1"


def test_what_was_spoilt_on_this_machine_is_fetched_again(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("sft", write)
    weights = there.load("sft/1").path / "model.safetensors"
    published = weights.read_bytes()
    for spoilt in (published[:-1] + b"!", published[:-1]):
        weights.chmod(0o644)  # and with it what it is linked to
        weights.write_bytes(spoilt)
        assert there.load("sft/1").ref == "sft/1" and weights.read_bytes() == published
    assert there.verify("sft/1") == []


def test_processes_that_fetch_the_same_at_once_do_not_disturb_each_other(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("sft", write)
    version = there.load("sft/1")
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            (version.path / "model.safetensors").unlink(missing_ok=True)
            list(pool.map(lambda _: there.remote.fetch(version), range(8)))
            assert there.verify("sft/1") == []
    assert not [path for path in version.path.iterdir() if path.name not in (*version.manifest.files, "manifest.json", "README.md")]


def test_the_page_promotes_where_the_registry_is(machine, write):
    here, there = map(machine, MACHINES)
    here.publish("seed", write)
    pages = create_app(Catalog(), HttpConfig(registry=there.location)).test_client()
    assert [one["ref"] for one in pages.get("/registry").json["versions"]] == ["seed/1"]
    here.set_alias("old", "seed/1")
    assert pages.get("/registry").json["aliases"] == {"old": "seed/1"}


def test_garbage_goes_everywhere_and_its_number_is_not_given_out_again(machine, write):
    here, there = map(machine, MACHINES)
    for _ in range(4):
        here.publish("sft", write)
    there.set_alias("kept", "sft/1")
    assert [version.ref for version in there.gc(keep=1, dry_run=True).versions] == ["sft/2", "sft/3"]
    assert here.refs() == [f"sft/{n}" for n in (1, 2, 3, 4)]
    there.gc(keep=1)
    assert here.refs() == there.refs() == ["sft/1", "sft/4"]
    assert sum(path.endswith(CLAIM) for path in objects(here)) == 4


def test_what_a_killed_publisher_left_on_this_machine_goes_as_well(machine, write):
    here = machine("here")
    here.publish("sft", write)
    left = here.root / ".staging" / "killed"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half of it")
    assert here.gc(dry_run=True).temporary == (left,) and left.is_dir()
    assert here.gc().temporary == (left,) and not left.exists()
    assert here.gc().temporary == () and here.verify("sft/1") == []


def test_names_and_aliases_stay_apart_and_places_that_cannot_be_are_named(machine, write):
    here = machine("here")
    here.publish("sft", write)
    here.set_alias("production", "sft/1")
    with pytest.raises(LifecycleError, match="name of a model"):
        here.set_alias("sft", "sft/1")
    with pytest.raises(LifecycleError, match="is an alias"):
        here.publish("production", write)
    with pytest.raises(LifecycleError, match="no version"):
        here.load("sft/9")
    assert repr(here) == f"ModelRegistry({here.location!r})"


def test_a_protocol_that_nobody_knows_is_named():
    with pytest.raises(LifecycleError, match="choose s3://"):
        ModelRegistry("gopher://models")


def test_a_file_url_is_a_directory(tmp_path: Path, write):
    ModelRegistry(tmp_path / "registry").publish("sft", write)
    assert ModelRegistry(f"file://{tmp_path}/registry").refs() == ["sft/1"]


def test_storage_without_exclusive_creation_is_read_and_not_written_to(tmp_path: Path, write, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ModelRegistry(tmp_path / "registry").publish("sft", write)
    registry = ModelRegistry(f"local://{tmp_path}/registry")
    assert registry.load("sft/1").manifest.name == "sft"
    with pytest.raises(LifecycleError, match="can be read, not written to"):
        registry.publish("sft", write)
    with pytest.raises(LifecycleError, match="can be read, not written to"):
        registry.set_alias("production", "sft/1")
