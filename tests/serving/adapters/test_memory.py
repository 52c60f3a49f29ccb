"""What a model will need is known before its weights are read."""

import pytest
from transformers import AutoModelForCausalLM

from lifecycle.errors import LifecycleError
from serving.commands import parse_adapters
from serving.composition import ServingConfig
from serving.domain.errors import Conflict
from serving.infrastructure import memory


@pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("bfloat16", 2)])
def test_weights_are_counted_in_the_arithmetic_that_serves_them(base, dtype, size):
    loaded = AutoModelForCausalLM.from_pretrained(base.path)
    stored = loaded.dtype.itemsize
    assert memory.weight_bytes(base.path, ServingConfig(dtype=dtype)) == loaded.num_parameters() * max(size, stored)


def test_memory_for_keys_and_values_that_was_asked_for_counts(base, monkeypatch):
    needed = memory.weight_bytes(base.path, ServingConfig(dtype="float32"))
    monkeypatch.setattr(memory, "free_bytes", lambda device: needed + 2**20)
    memory.require_memory(base.path, ServingConfig(dtype="float32", kv_memory_mb=1))
    with pytest.raises(Conflict, match="ask for less kv_memory_mb"):
        memory.require_memory(base.path, ServingConfig(dtype="float32", kv_memory_mb=2))


def test_models_that_share_a_device_share_half_of_what_is_free(base, monkeypatch):
    config = ServingConfig(dtype="float32")
    monkeypatch.setattr(memory, "free_bytes", lambda device: memory.weight_bytes(base.path, config) + 300 * 2**20)
    assert [memory.kv_share_mb(base.path, config, engines) for engines in (1, 2, 3)] == [150, 75, 50]


def test_adapters_on_the_command_line():
    assert parse_adapters(["a=adapter/1", "b=./x=y"]) == {"a": "adapter/1", "b": "./x=y"}
    for wrong in (["a"], ["=x"], ["a="], [""]):
        with pytest.raises(LifecycleError, match="write NAME=REF"):
            parse_adapters(wrong)
    with pytest.raises(LifecycleError, match='two adapters are called "a"'):
        parse_adapters(["a=x", "a=y"])
