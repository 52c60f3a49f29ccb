"""Collecting garbage never takes what something else stands on."""

from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry


def test_aliased_newest_and_ancestors_stay_the_rest_goes(registry: ModelRegistry, write) -> None:
    pretrain = [registry.publish("pretrain", write) for _ in range(4)]
    sft = [registry.publish("sft", write, parents=[pretrain[0]]) for _ in range(3)]
    registry.publish("rlhf", write, parents=[sft[1]])
    registry.set_alias("production", "pretrain/2")
    planned = registry.gc(keep=1, dry_run=True)
    assert len(registry.refs()) == 8, "a dry run removes nothing"
    removed = registry.gc(keep=1)
    assert removed == planned and removed.size == sum(version.size for version in removed.versions)
    assert [version.ref for version in removed.versions] == ["pretrain/3", "sft/1"]
    assert registry.refs() == ["pretrain/1", "pretrain/2", "pretrain/4", "rlhf/1", "sft/2", "sft/3"]
    assert registry.gc(keep=1).versions == ()


def test_what_an_alias_goes_back_to_stays(registry: ModelRegistry, write) -> None:
    for number in range(1, 6):
        registry.publish("deploy", write)
        if number in (1, 2, 5):
            registry.set_alias("production", f"deploy/{number}")
    registry.gc(keep=1)
    assert registry.refs() == ["deploy/2", "deploy/5"]


def test_numbers_are_never_given_out_twice(registry: ModelRegistry, write) -> None:
    for _ in range(3):
        registry.publish("sft", write)
    registry.gc(keep=1)
    assert registry.publish("sft", write).ref == "sft/4"
    with pytest.raises(LifecycleError, match="cannot keep 0"):
        registry.gc(keep=0)


def test_parents_of_unfinished_work_stay_until_it_is_discarded(registry: ModelRegistry, write) -> None:
    first = registry.publish("pretrain", write)
    registry.publish("pretrain", write)
    registry.workspace("sft", "f" * 64, parents=[first])
    registry.workspace("sft", "f" * 64)
    assert registry.gc(keep=1).versions == ()
    registry.discard_workspace("sft", "f" * 64)
    assert [version.ref for version in registry.gc(keep=1).versions] == ["pretrain/1"]


def test_nothing_is_removed_while_a_manifest_cannot_be_read(registry: ModelRegistry, write) -> None:
    for _ in range(3):
        registry.publish("sft", write)
    (registry.resolve("sft/2").path / "manifest.json").write_text("{")
    with pytest.raises(LifecycleError, match='corrupt version "sft/2"'):
        registry.gc(keep=1)
    assert registry.refs() == ["sft/1", "sft/2", "sft/3"]


def test_an_absent_registry_has_no_garbage(registry: ModelRegistry) -> None:
    assert registry.gc().size == 0 and not registry.root.exists()


@settings(deadline=None, max_examples=8)
@given(data=st.data())
def test_whatever_was_made_from_whatever_every_chain_stays_whole(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        registry = ModelRegistry(root)
        made = []
        for _ in range(data.draw(st.integers(1, 7))):
            parents = data.draw(st.lists(st.sampled_from(made), max_size=2, unique_by=id)) if made else []
            name = data.draw(st.sampled_from(["pretrain", "sft"]))
            made.append(registry.publish(name, lambda path: (path / "config.json").write_text("{}"), parents=parents))
        aliased = data.draw(st.none() | st.sampled_from(made))
        if aliased:
            registry.set_alias("production", aliased.ref)
        keep = data.draw(st.integers(1, 3))
        expected = {version.ref for name in registry.names() for version in registry.versions(name)[-keep:]}
        registry.gc(keep)
        left = set(registry.refs())
        assert left >= expected | ({aliased.ref} if aliased else set())
        needed = expected | ({aliased.ref} if aliased else set())
        assert left == {ancestor.ref for ref in needed for ancestor in registry.lineage(ref)}, "nothing more, nothing less"
