"""The script that measures the report card, on a registry of random models."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sft.tiny import WORLD, Start

from lifecycle import versions
from lifecycle.world import config as world

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import report_card  # noqa: E402


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> dict:
    """Two seeds of a base and a chatting model."""
    start = Start.make(tmp_path_factory.mktemp("card") / "registry")
    for seed in (0, 1):
        parent = None
        for stage in ("pretrain", "sft"):
            random = start.model(stage, seed)
            parent = start.registry.publish(
                stage,
                lambda target, source=random.path: [(target / file.name).write_bytes(file.read_bytes()) for file in source.iterdir()],
                parents=[parent or start.registry.load("tokenizer/1")],
                preset="tiny",
                seed=seed,
                cost={"wall_seconds": 60.0, "tokens": 1000},
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(world.PRESETS, "tiny", replace(WORLD, documents=60))
        return json.loads(json.dumps(report_card.measure(start.registry, "tiny", limit=2)))


def test_every_version_has_rows_and_every_kind_of_model_a_summary(measured):
    assert {(row["stage"], row["seed"]) for row in measured["rows"]} == {(stage, seed) for stage in ("pretrain", "sft") for seed in (0, 1)}
    found = {(one["model"], one["skill"]): one for one in measured["summaries"]}
    assert {model for model, _ in found} == {"n-gram", "base", "SFT"}
    for (model, skill), one in found.items():
        shares = [row["value"] for row in measured["rows"] if (row["stage"], row["skill"]) == ({"base": "pretrain", "SFT": "sft"}.get(model), skill)]
        assert not shares or one["mean"] == pytest.approx(sum(shares) / len(shares))
        assert one["n"] == 2 and one["low"] <= one["mean"] <= one["high"]


def test_answers_stand_side_by_side(measured):
    assert all(list(sample["answers"]) == ["n-gram", "base", "SFT"] for sample in measured["samples"])
    assert len(measured["samples"]) == 2 * len({row["skill"] for row in measured["rows"]})


def test_what_it_cost_is_told_by_stage(measured):
    by_stage = {cost["stage"]: cost for cost in measured["costs"]}
    assert by_stage["tokenizer"]["runs"] == 1 and by_stage["tokenizer"]["cpu_seconds"] > 0
    assert by_stage["sft"] == {"stage": "sft", "runs": 2, "wall_seconds": 60.0, "tokens": 1000}


def test_it_can_be_shown(measured):
    assert "| skill | n-gram | base | SFT | chance |" in report_card.render(measured)
    assert "## Costs" in report_card.details(measured) and "## Answers side by side" in report_card.details(measured)


def test_what_was_logged_on_the_way_is_kept_in_points_and_told_in_tenths(tmp_path):
    start = Start.make(tmp_path / "registry")
    entries = [{"step": step, "loss": 1 / step, "grad_norm": 1.0} for step in range(1, 1001)]
    source = start.model("sft").path

    def write(target: Path) -> None:
        for file in source.iterdir():
            (target / file.name).write_bytes(file.read_bytes())
        versions.write_log(target, entries)

    version = start.registry.publish("sft", write, parents=[start.registry.load("tokenizer/1")])
    kept = report_card.logs(start.registry, version)["sft"]
    assert len(kept) == report_card.POINTS and (kept[0]["step"], kept[-1]["step"]) == (1, 1000)
    assert set(kept[0]) == {"step", "loss"}
    header, _, row = report_card._loss_table({"sft": kept}).strip().splitlines()
    assert header.startswith("| stage | 0% | 10%") and header.endswith("| 100% |")
    losses = [float(cell) for cell in row.split("|")[2:-1]]
    assert losses == sorted(losses, reverse=True)


def test_sizes_stand_side_by_side(measured, tmp_path, monkeypatch):
    monkeypatch.setattr(report_card, "BENCHMARKS", tmp_path)
    for preset in ("tiny", "laptop"):
        (tmp_path / f"{report_card.name(preset)}.json").write_text(json.dumps({**measured, "preset": preset}))
    header, _, *rows = report_card.sizes().strip().splitlines()
    assert header == "| skill | `tiny` | `laptop` |"
    assert len(rows) == len({row["skill"] for row in measured["rows"]}) + 4
