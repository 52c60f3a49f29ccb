"""The scaling benchmark with models that learn nothing: what it trains, measures and fits."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sft.tiny import SHAPE, WORLD

from lifecycle.pretrain import PretrainConfig
from lifecycle.registry import ModelRegistry

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import scaling  # noqa: E402

TRAINING = PretrainConfig(model=SHAPE, batch_tokens=512, bucket_batches=2, dtype="fp32", eval_every=100)


def test_there_is_a_point_for_every_size_and_budget_and_none_is_trained_twice(tmp_path):
    registry, shapes = ModelRegistry(tmp_path), [replace(SHAPE, num_layers=layers) for layers in (2, 3)]
    versions = scaling.train(registry, WORLD, shapes, [600, 1200], TRAINING)
    again = scaling.train(registry, WORLD, shapes, [600, 1200], TRAINING)
    assert [version.ref for version in again] == [version.ref for version in versions]
    points = [scaling.measure(version, limit=2) for version in versions]
    assert [point["parameters"] for point in points] == [shape.num_parameters for shape in shapes for _ in range(2)]
    assert all(point["tokens"] >= tokens for point, tokens in zip(points, [600, 1200] * 2, strict=True))
    assert all(point["loss"] > 0 and point["flops"] > 0 and point["sums"]["n"] == 2 for point in points)
    assert len(scaling.table(points).splitlines()) == 2 + len(points)


def test_exponents_of_a_power_law_are_found():
    points = [
        {"parameters": size, "tokens": tokens, "loss": 9 * size**-0.1 * tokens**-0.2} for size in (1e5, 3e5, 1e6) for tokens in (1e6, 4e6)
    ]
    assert scaling.exponents(points) == pytest.approx({"parameters": 0.1, "tokens": 0.2})
    alone = scaling.exponents([point for point in points if point["parameters"] == 1e5])
    assert alone["parameters"] is None and alone["tokens"] == pytest.approx(0.2)


@pytest.mark.parametrize("width", scaling.WIDTHS)
def test_every_size_is_a_decoder(width):
    assert scaling.shape(width).head_dim == 32
