"""A reward model's certainty: what it means on pairs whose margins are known."""

import math
import random

import pytest

from lifecycle.rlhf.calibration import calibration, plot


def test_a_model_that_is_as_sure_as_it_is_right_has_no_error():
    draw = random.Random(0)
    margins = []
    for _ in range(20_000):
        sure = draw.uniform(0.5, 1 - 1e-6)
        margin = math.log(sure / (1 - sure))
        margins.append(margin if draw.random() < sure else -margin)
    found = calibration(margins)
    assert found["error"] < 0.02 and len(found["bins"]) == 5
    assert sum(row["pairs"] for row in found["bins"]) == len(margins)


def test_one_that_is_sure_and_wrong_is_as_wrong_as_it_is_sure():
    found = calibration([-20.0] * 3)
    assert found["error"] == pytest.approx(1, abs=1e-6)
    assert [(row["agreement"], row["pairs"]) for row in found["bins"]] == [(0.0, 3)]


def test_one_that_knows_nothing_says_one_half():
    assert calibration([1e-9, -1e-9])["error"] == pytest.approx(0, abs=1e-6)


def test_the_bins_are_drawn():
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    plot(calibration([0.1, 2.0, -0.5])["bins"], axes)
    assert len(axes.lines) == 2 and len(axes.texts) == 3
