"""The command line's words become a config, or an error that says what to type."""

import random
from dataclasses import replace

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.pretrain.config import PRESETS, configure
from lifecycle.pretrain.schedule import rate_scale
from lifecycle.world.config import PRESETS as WORLDS
from lifecycle.world.corpus import documents


def test_settings_and_the_model_shape_are_set_by_name():
    config = configure(
        "tiny", {"lr": "1e-3", "model.num_layers": "2", "model.context_length": "16384", "batch_tokens": "16_384"}
    )
    assert (config.lr, config.model.num_layers, config.batch_tokens) == (1e-3, 2, 16_384)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": "1"}, "unknown key"),
        ({"model.num_layer": "1"}, 'Did you mean "num_layers"'),
        ({"model": "laptop"}, "model.num_layers"),
        ({"schedule": "linear"}, "choose one of cosine, wsd"),
        ({"tokens": "0"}, "above zero"),
        ({"matrix_lr": "-0.005"}, "matrix_lr must be above zero"),
        ({"weight_decay": "-1"}, "weight_decay must not be negative"),
        ({"beta2": "1"}, "beta2 must be from 0 to below 1"),
        ({"batch_tokens": "100"}, "less than a document"),
    ],
)
def test_what_cannot_be_is_named(changes, message):
    with pytest.raises(LifecycleError, match=message):
        configure("tiny", changes)


def test_an_unknown_preset_lists_the_known_ones():
    with pytest.raises(LifecycleError, match="gpu, laptop, tiny"):
        configure("huge")


@pytest.mark.parametrize("schedule", ["cosine", "wsd"])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_rate_rises_then_falls_to_the_floor(preset, schedule):
    config = configure(preset, {"schedule": schedule})
    rates = [rate_scale(config, step / 1000) for step in range(1001)]
    peak = rates.index(max(rates))
    assert 0 < rates[0] < 0.5
    assert max(rates) == pytest.approx(1.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(config.min_lr_ratio)


@pytest.mark.parametrize("preset", [name for name, config in PRESETS.items() if config.curriculum])
def test_the_budget_reads_the_world_s_text_once_and_to_its_end(preset):
    """What comes last in the curriculum is learnt only when the budget takes it in."""
    config, world, sample = PRESETS[preset], WORLDS[preset], 1500
    texts = [one.text for one in documents(replace(world, documents=sample), random.Random(0))]
    tokenizer = train_tokenizer(texts, config.model.vocab_size)
    tokens = sum(len(ids) + 1 for ids in tokenizer(texts)["input_ids"]) * world.documents / sample
    assert config.tokens == pytest.approx(tokens, rel=0.1)
