"""`lifecycle models` as people type it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lifecycle.cli import main
from lifecycle.registry import DataRef, ModelRegistry


@pytest.fixture
def shelf(registry: ModelRegistry, write, monkeypatch) -> ModelRegistry:
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(registry.root))
    pretrain = registry.publish("pretrain", write, data=DataRef("world", "d" * 64), metrics={"loss": 1.23456, "note": "x"})
    for lr in (1, 2):
        registry.publish("sft", write, parents=[pretrain], config={"lr": lr}, seed=3)
    registry.set_alias("production", "sft/1")
    return registry


def models(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["models", *words])
    assert result.exit_code == code, result.output
    return result


def test_the_table_has_a_line_for_every_version(shelf: ModelRegistry) -> None:
    lines = models().output.splitlines()
    assert lines[0].split() == ["VERSION", "STAGE", "CREATED", "SIZE", "ALIASES", "METRIC"]
    assert [line.split()[0] for line in lines[1:]] == ["pretrain/1", "sft/1", "sft/2"]
    assert lines[1].endswith("loss 1.235") and "production" in lines[2]


def test_a_damaged_version_does_not_hide_the_others(shelf: ModelRegistry) -> None:
    (shelf.resolve("sft/1").path / "manifest.json").write_text("{")
    assert "DAMAGED" in models().output and "sft/2" in models().output


def test_an_empty_registry_says_what_to_type(registry: ModelRegistry, monkeypatch) -> None:
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(registry.root))
    assert "lifecycle models import smollm2" in models().output
    assert models("verify").output == models("aliases").output == ""


def test_lineage_ends_with_the_whole_hash_of_the_data(shelf: ModelRegistry) -> None:
    lines = models("lineage", "production").output.splitlines()
    assert [line.split()[0] for line in lines[:2]] == ["sft/1", "pretrain/1"]
    assert lines[1].endswith(f"root  data world {'d' * 64}") and lines[2].startswith("every link verified: 2 version(s)")


def test_show_diff_and_aliases(shelf: ModelRegistry) -> None:
    shown = models("show", "sft/2").output
    assert "pretrain/1" in shown and "model.safetensors" in shown and shelf.resolve("sft/2").manifest_hash in shown
    assert [line.split() for line in models("diff", "sft/1", "sft/2").output.splitlines()[:2]] == [["config"], ["lr", "1", "->", "2"]]
    assert "do not differ" in models("diff", "sft/1", "production").output
    assert models("alias", "candidate", "sft@latest", "--reason", "better").output == "candidate -> sft/2\n"
    assert models("aliases").output == "candidate   ->  sft/2\nproduction  ->  sft/1\n"


def test_production_moves_through_the_gate_or_on_record(shelf: ModelRegistry) -> None:
    refused = models("alias", "production", "sft/2", code=2).output
    assert "lifecycle models promote sft/2" in refused
    assert "lifecycle deploy --parent sft/2" in models("promote", "sft/2", code=2).output
    assert "--force --reason WHY" in models("promote", "sft/2", "--force", code=2).output
    assert shelf.aliases() == {"production": "sft/1"}
    assert models("promote", "sft/2", "--force", "--reason", "now").output == "production -> sft/2 (was sft/1)\n"
    assert models("promote", "sft/2").output == "production is sft/2 already\n"


def test_rolling_back_undoes_the_last_move_and_never_its_own(shelf: ModelRegistry) -> None:
    assert "nothing to go back to" in models("rollback", "--reason", "slow", code=2).output
    for ref in ("sft/2", "pretrain/1"):
        shelf.set_alias("production", ref)
    assert models("rollback", "--reason", "slow").output == "production -> sft/2 (was pretrain/1)\n"
    assert models("rollback", "--reason", "slow").output == "production -> sft/1 (was sft/2)\n"
    assert "nothing to go back to" in models("rollback", "--reason", "slow", code=2).output
    told = [line.split() for line in models("history", "production").output.splitlines()]
    assert [line[4] for line in told] == ["sft/1", "sft/2", "pretrain/1", "sft/2", "sft/1"]
    assert told[-1][-1] == "slow" and "@" in told[-1][5] and models("history", "candidate").output == ""


def test_a_damaged_version_is_not_gone_back_to(shelf: ModelRegistry) -> None:
    shelf.set_alias("production", "sft/2")
    (shelf.resolve("sft/1").path / "config.json").write_text("tampered")
    assert "config.json is corrupt" in models("rollback", "--reason", "slow", code=2).output
    assert shelf.aliases() == {"production": "sft/2"}


def test_verify_fails_and_names_the_file(shelf: ModelRegistry) -> None:
    assert models("verify").output == "pretrain/1: ok\nsft/1: ok\nsft/2: ok\n"
    (shelf.resolve("sft/1").path / "config.json").unlink()
    assert "sft/1: config.json is missing" in models("verify", code=1).output
    assert models("verify", "sft/2").output == "sft/2: ok\n"


def test_gc_and_export_and_import(shelf: ModelRegistry, tmp_path: Path) -> None:
    latest = shelf.publish("sft", lambda place: shutil.copytree(shelf.resolve("sft/2").path, place, dirs_exist_ok=True))
    shelf.set_alias("production", "sft/2")
    shelf.set_alias("production", latest.ref)
    assert models("gc", "--keep", "1", "--dry-run").output.startswith("sft/1 ") and len(shelf.refs()) == 4
    assert "freed" in models("gc", "--keep", "1").output and "sft/2" in shelf.refs() and len(shelf.refs()) == 3
    models("export", "production", str(tmp_path / "out"))
    assert "imported as copy/1" in models("import", str(tmp_path / "out"), "--name", "copy").output


def test_a_mistake_is_one_line_and_exit_code_2(shelf: ModelRegistry) -> None:
    assert models("show", "sft", code=2).output == 'lifecycle: "sft" is ambiguous: choose one of sft/1, sft/2, sft@latest\n'


def test_listing_models_does_not_wait_for_torch() -> None:
    code = "import sys, lifecycle.registry.commands, lifecycle.registry.sources; print({'torch', 'transformers'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.stdout == "set()\n", result.stderr
