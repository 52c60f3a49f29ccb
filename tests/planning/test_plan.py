"""A forecast follows from the configuration; what was measured stands beside it."""

import random
from dataclasses import replace

import pytest
from click.testing import CliRunner
from sft.tiny import SHAPE, WORLD

from lifecycle.model.presets import PRESETS as SHAPES
from lifecycle.pipeline import took
from lifecycle.planning.commands import duration, plan, size
from lifecycle.planning.forecast import (
    PACE,
    PROCESS_BYTES,
    data_bytes,
    forecast,
    measured,
    tokens_per_conversation,
    training_bytes,
)
from lifecycle.planning.probe import LARGEST, flops_per_second, probed
from lifecycle.presets import preset
from lifecycle.pretrain import PretrainConfig
from lifecycle.pretrain.config import PRESETS as PRETRAIN
from lifecycle.registry import ModelRegistry
from lifecycle.world.config import PRESETS as WORLDS


@pytest.mark.parametrize("name", WORLDS)
def test_every_preset_has_a_forecast_for_every_stage(name):
    plans = {one.stage: one for one in forecast(preset(name), 1e12)}
    assert plans.keys() == PACE.keys()
    assert plans["pretrain"].tokens == preset(name).pretrain.tokens
    assert all(one.tokens > 0 and one.seconds > 0 and one.memory_bytes > PROCESS_BYTES for one in plans.values())


def test_twice_the_speed_is_half_the_time_and_twice_the_steps_twice_of_it():
    config = preset("tiny")
    slow, fast = forecast(config, 1e11), forecast(config, 2e11)
    assert [one.seconds for one in slow] == pytest.approx([2 * one.seconds for one in fast])
    longer = replace(config, rlhf=replace(config.rlhf, dpo_steps=2 * config.rlhf.dpo_steps))
    before, after = ({one.stage: one for one in forecast(each, 1e11)} for each in (config, longer))
    assert after["rlhf-dpo"].seconds == pytest.approx(2 * before["rlhf-dpo"].seconds)
    assert all(after[stage] == before[stage] for stage in PACE if stage != "rlhf-dpo")


def test_a_conversation_is_about_as_long_as_it_is_said_to_be(tmp_path):
    from lifecycle.model.tokenizer import train_tokenizer
    from lifecycle.world.conversations import conversations
    from lifecycle.world.corpus import documents

    tokenizer = train_tokenizer((one.text for one in documents(replace(WORLD, documents=2000), random.Random(0))), 1024)
    drawn = list(conversations(replace(WORLD, conversations=100), random.Random(0)))
    lengths = [len(tokenizer.apply_chat_template(one["messages"], tools=one["tools"], return_dict=False)) for one in drawn]
    assert tokens_per_conversation(replace(WORLD, conversations=200)) == pytest.approx(sum(lengths) / len(lengths), rel=0.35)


def test_memory_grows_with_the_weights_and_with_what_is_trained_on_at_once():
    tiny, laptop = SHAPES["tiny"], SHAPES["laptop"]
    assert training_bytes(laptop, 0) - PROCESS_BYTES == 16 * laptop.num_parameters
    assert training_bytes(tiny, 2048) - training_bytes(tiny, 1024) == training_bytes(tiny, 1024) - training_bytes(tiny, 0) > 0


def test_what_is_shared_out_takes_less_memory_in_each_process():
    config = preset("cluster")
    alone, eight = ({one.stage: one for one in forecast(config, 1e15, count)} for count in (1, 8))
    for stage in PACE:
        assert eight[stage].seconds == alone[stage].seconds and eight[stage].memory_bytes <= alone[stage].memory_bytes
    weights = 16 * config.pretrain.model.num_parameters
    assert alone["pretrain"].memory_bytes - eight["pretrain"].memory_bytes > 0.8 * weights
    assert eight["sft"].memory_bytes > weights


def test_the_world_is_in_memory_too():
    config = preset("tiny")
    larger = replace(config, world=replace(config.world, conversations=2 * config.world.conversations))
    before, after = ({one.stage: one.memory_bytes for one in forecast(each, 1e11)} for each in (config, larger))
    assert after["sft"] - before["sft"] == data_bytes(larger.world, "sft") - data_bytes(config.world, "sft") > 0
    assert all(after[stage] == before[stage] for stage in PACE if stage != "sft")


def test_a_run_ends_with_what_it_took_beside_what_was_foretold(tmp_path):
    registry = ModelRegistry(tmp_path)
    cost = {"tokens": 4321, "peak_memory_bytes": 2**30}
    registry.publish("sft", lambda at: (at / "w").write_text("x"), preset="mine", cost=cost, seconds=90)
    small = replace(preset("tiny"), pretrain=PretrainConfig(model=SHAPE, batch_tokens=512, dtype="fp32"))
    (line,) = [line for line in took(small, registry, "mine").splitlines() if line.startswith("| sft ")]
    assert "| 4,321 |" in line and "| 90 s |" in line and line.endswith("| 1.0 GiB |")


def test_a_large_model_is_probed_in_a_slice_of_its_width():
    assert probed(SHAPES["tiny"]) is SHAPES["tiny"]
    large = SHAPES["gpu"]
    assert large.num_parameters > LARGEST >= probed(large).num_parameters
    assert (probed(large).hidden_size, probed(large).intermediate_size) == (large.hidden_size, large.intermediate_size)


def test_a_probe_finds_a_speed():
    assert flops_per_second(PretrainConfig(model=SHAPE, batch_tokens=512, dtype="fp32"), seconds=0.01) > 0


def test_the_command_shows_what_was_measured_beside_what_is_predicted(tmp_path, monkeypatch):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(tmp_path))
    registry = ModelRegistry(tmp_path)
    for tokens, name in ((5, "tiny"), (6_012_345, "tiny"), (7, "laptop")):
        cost = {"tokens": tokens, "wall_seconds": 90.0, "peak_memory_bytes": 2**30}
        registry.publish("pretrain", lambda at: (at / "w").write_text("x"), preset=name, cost=cost, seconds=1)
    assert measured(registry.versions("pretrain"), "tiny") == {"pretrain": {**cost, "tokens": 6_012_345}}
    result = CliRunner().invoke(plan, ["--flops", "1e11", "--price", "3600"], catch_exceptions=False)
    (line,) = [line for line in result.output.splitlines() if line.startswith("| pretrain ")]
    assert f"| {PRETRAIN['tiny'].tokens:,} | 6,012,345 |" in line and "| 90 s |" in line and line.endswith("| 1.0 GiB |")
    assert f"{SHAPES['tiny'].num_parameters:,} parameters" in result.output and "to pay" in result.output


@pytest.mark.parametrize(("seconds", "told"), [(5, "5 s"), (600, "10 min"), (36_000, "10 h"), (864_000, "10 days")])
def test_times_are_told_in_fitting_units(seconds, told):
    assert duration(seconds) == told and size(2**20) == "1 MiB"
