"""The command line's words become a config, or an error that says what to type."""

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.pretrain.config import PRESETS, configure
from lifecycle.pretrain.schedule import rate_scale


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
