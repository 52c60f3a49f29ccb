"""What people write means one version, or an error that lists what they could have meant."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> ModelRegistry:
    """pretrain/1, sft/1..3, sft-large/1, alias production -> sft/2."""
    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    for name in ("pretrain", "sft", "sft", "sft", "sft-large"):
        registry.publish(name, lambda directory: (directory / "config.json").write_text("{}"))
    registry.set_alias("production", "sft/2")
    return registry


@pytest.mark.parametrize(
    ("ref", "meant"),
    [
        ("sft/1", "sft/1"),
        ("sft@latest", "sft/3"),
        ("production", "sft/2"),
        ("pretrain", "pretrain/1"),
        ("sft-large", "sft-large/1"),
    ],
)
def test_what_a_reference_means(shelf: ModelRegistry, ref: str, meant: str) -> None:
    assert shelf.resolve(ref).ref == meant


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("sft", '"sft" is ambiguous: choose one of sft/1, sft/2, sft/3, sft@latest'),
        ("sft/4", "choose one of sft/1, sft/2, sft/3, sft@latest"),
        ("sft/01", "choose one of sft/1"),
        ("sft/-1", "choose one of sft/1"),
        ("sft/²", "choose one of sft/1"),
        ("sft/1/config.json", "choose one of sft/1"),
        ("sft@newest", "write sft@latest, or a number as in sft/3"),
        ("sft@", "write sft@latest"),
        ("prettrain", 'there is pretrain/1, sft/2, sft/3, sft-large/1; aliases: production. Did you mean "pretrain"?'),
        ("prodution", 'Did you mean "production"?'),
        ("stf/3", 'Did you mean "sft/3"?'),
        ("production/1", 'no version or alias "production/1"'),
        ("", 'no version or alias ""'),
        ("../sft/1", "no version or alias"),
        (".staging/1", "no version or alias"),
        ("sft/1\n", "choose one of"),
    ],
)
def test_what_is_said_about_a_reference_that_means_nothing(shelf: ModelRegistry, ref: str, said: str) -> None:
    with pytest.raises(LifecycleError) as error:
        shelf.resolve(ref)
    assert said in str(error.value)


@settings(deadline=None)
@given(st.text(max_size=12) | st.from_regex(r"(sft|production)[/@a-z0-9]{0,4}", fullmatch=True))
def test_any_text_is_a_version_or_a_clear_error(shelf: ModelRegistry, ref: str) -> None:
    with contextlib.suppress(LifecycleError):
        assert shelf.resolve(ref).ref in shelf.refs()


def test_an_empty_registry_says_how_to_start(registry: ModelRegistry) -> None:
    with pytest.raises(LifecycleError, match="is empty; train one with .*lifecycle pretrain.* import smollm2"):
        registry.resolve("sft@latest")


def test_many_candidates_are_listed_in_short(registry: ModelRegistry) -> None:
    for number in range(1, 31):
        (registry.root / "sft" / str(number)).mkdir(parents=True)
    with pytest.raises(LifecycleError, match="sft/1, sft/2, ..., sft/27, sft/28, sft/29, sft/30, sft@latest"):
        registry.resolve("sft")


def test_numbers_are_ordered_as_numbers(registry: ModelRegistry) -> None:
    for _ in range(11):
        registry.publish("sft", lambda directory: (directory / "config.json").write_text("{}"))
    assert registry.latest("sft").number == 11
    assert [version.number for version in registry.versions("sft")] == list(range(1, 12))
