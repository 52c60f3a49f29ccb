"""Overrides become the field's type or an error that names the near miss; every preset can be built."""

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal

import pytest
import torch

from lifecycle.config import choose, near_miss, override, parse_assignments
from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_dtype
from lifecycle.presets import preset
from lifecycle.world.config import PRESETS


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Outer:
    steps: int = 10
    rate: float = 0.1
    fast: bool = False
    name: str = "a"
    limit: int | None = None
    note: str | None = None
    inner: Inner = field(default_factory=Inner)


@pytest.mark.parametrize(
    "key, given, value",
    [
        ("steps", "20", 20),
        ("steps", "2_000", 2000),
        ("steps", 20, 20),
        ("rate", "1e-3", 1e-3),
        ("rate", "2", 2.0),
        ("rate", 2, 2.0),
        ("fast", "true", True),
        ("fast", "False", False),
        ("fast", "1", True),
        ("fast", True, True),
        ("name", "none", "none"),
        ("name", "1", "1"),
        ("limit", "5", 5),
        ("limit", "None", None),
        ("limit", None, None),
        ("note", "none", None),
        ("note", "5", "5"),
        ("inner", Inner(3), Inner(3)),
    ],
)
def test_a_value_becomes_the_fields_type(key, given, value):
    changed = getattr(override(Outer(), {key: given}), key)
    assert changed == value and type(changed) is type(value)


@pytest.mark.parametrize(
    "key, given, wants",
    [
        ("steps", "1.5", "int"),
        ("steps", 1.5, "int"),
        ("steps", True, "int"),
        ("steps", "", "int"),
        ("steps", None, "needs a value"),
        ("steps", "none", "int"),
        ("rate", "fast", "float"),
        ("rate", True, "float"),
        ("rate", [], "float"),
        ("fast", "yes", "bool"),
        ("fast", 1, "bool"),
        ("name", 5, "str"),
        ("limit", "many", "int"),
        ("inner", "big", "Inner"),
    ],
)
def test_a_value_of_another_type_is_refused(key, given, wants):
    with pytest.raises(LifecycleError, match=f'"{key}".*{wants}'):
        override(Outer(), {key: given})


def test_what_is_not_named_stays_and_the_original_does_not_change():
    before = Outer()
    assert override(before, {"steps": "3"}) == Outer(steps=3)
    assert before == override(before, {}) == Outer()


def test_an_unknown_key_names_the_near_miss_and_the_known_ones():
    with pytest.raises(LifecycleError, match='unknown key "step": Outer has steps, rate.*Did you mean "steps"'):
        override(Outer(), {"step": "1"})


def test_assignments():
    assert parse_assignments(["lr=1e-3", " steps = 10 ", "name=a=b", "note="]) == {
        "lr": "1e-3",
        "steps": "10",
        "name": "a=b",
        "note": "",
    }
    for word in ("lr", "=1", ""):
        with pytest.raises(LifecycleError, match="write KEY=VALUE"):
            parse_assignments([word])


def test_choosing():
    assert choose("colour", "red", {"red": 1}) == 1
    with pytest.raises(LifecycleError, match='unknown colour "rad": choose one of blue, red. Did you mean "red"'):
        choose("colour", "rad", {"red": 1, "blue": 2})
    assert near_miss("zebra", ["red"]) == ""


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_overrides_to_itself(name):
    config = preset(name)
    for stage in fields(config):
        settings = getattr(config, stage.name)
        assert is_dataclass(settings)
        same = {one.name: getattr(settings, one.name) for one in fields(settings)}
        assert override(settings, same) == settings
        for key, value in same.items():
            if isinstance(value, int | float | str | None):
                assert override(settings, {key: str(value)}) == settings, key


@pytest.mark.parametrize(
    ("stage", "changes", "said"),
    [
        *((stage, {"seed": -1}, "seed must be from 0 to 4294967295, not -1") for stage in ("world", "pretrain", "sft", "rlhf", "see", "speak", "feedback")),
        ("pretrain", {"schedule": "wsd", "decay": 0}, "decay is a part of the budget, above 0 and at most 1, not 0"),
        ("see", {"num_heads": 0}, "num_heads must be above zero"),
        ("world", {"documents": 0}, "documents must be above zero"),
        ("world", {"unanswerable": -1}, "unanswerable must not be negative"),
    ],
)
def test_values_that_no_run_could_take_are_refused_at_once(stage, changes, said):
    with pytest.raises(LifecycleError, match=said):
        override(getattr(preset("tiny"), stage), {key: str(value) for key, value in changes.items()})


def test_an_unknown_arithmetic_is_named():
    with pytest.raises(LifecycleError, match='unknown dtype "fp16": choose one of bf16, bfloat16, float32, fp32'):
        choose_dtype("fp16", torch.device("cpu"))


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(LifecycleError, match="choose one of cluster, gpu, laptop, tiny"):
        preset("huge")



@dataclass(frozen=True)
class Arithmetic:
    dtype: Literal["auto", "float32"] = "auto"


def test_a_literal_takes_one_of_its_values():
    assert override(Arithmetic(), {"dtype": "float32"}).dtype == "float32"
    with pytest.raises(LifecycleError, match="choose one of auto, float32"):
        override(Arithmetic(), {"dtype": "int4"})
