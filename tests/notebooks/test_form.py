"""What every notebook keeps to; whether they run is for nbval to say (`make test`)."""

from __future__ import annotations

import ast
import json
import re
import statistics
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PACKAGES = ("lifecycle", "serving")
CHECKED = "# NBVAL_CHECK_OUTPUT"


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text(cell: dict) -> str:
    return "".join(cell["source"])


def outputs(path: Path) -> list[str]:
    """Everything that was printed or shown as text, pictures left out."""
    found = []
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            shown = [
                output.get("text", []),
                *(output.get("data", {}).get(kind, []) for kind in ("text/plain", "text/html", "text/markdown")),
            ]
            found += ["".join(part) for part in shown if part]
    return found


def test_there_is_one_for_the_start_one_for_each_stage_one_for_marking_one_for_tools_one_for_seeing_and_one_for_voices():
    assert [path.stem for path in NOTEBOOKS] == [
        "00_start_here",
        "01_pretrain",
        "02_sft",
        "03_rlhf",
        "03b_feedback",
        "04_deploy",
        "05_serve",
        "06_function_calling",
        "07_seeing",
        "08_voice",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestEach:
    def test_begins_with_what_it_is_about_and_ends_with_what_was_registered(self, path):
        prose = [text(cell) for cell in cells(path, "markdown")]
        assert re.match(rf"# {path.stem.partition('_')[0]} - .+\n\n.{{200}}", prose[0])
        titles = [line for cell in prose for line in cell.splitlines() if line.startswith("## ")]
        assert titles[-1] == "## What was registered"

    def test_asks_for_a_prediction_before_it_measures(self, path):
        assert sum("**Predict" in text(cell) for cell in cells(path, "markdown")) >= 3

    def test_cells_are_short(self, path):
        lengths = [len(text(cell).splitlines()) for cell in cells(path, "code")]
        assert 4 <= statistics.median(lengths) <= 10
        assert max(lengths) <= 30

    def test_asserts_and_imports_instead_of_copying(self, path):
        """Functions that the packages define are not defined again under the same name with the same body."""
        own = {ast.dump(node) for cell in cells(path, "code") for node in functions(text(cell))}
        assert not own & package_functions()
        assert sum("assert " in text(cell) for cell in cells(path, "code")) >= 5

    def test_was_run_from_top_to_bottom_without_an_error(self, path):
        code = cells(path, "code")
        assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
        shown = [output for cell in code for output in cell["outputs"]]
        assert shown and not [
            output for output in shown if output["output_type"] == "error" or output.get("name") == "stderr"
        ]

    def test_checked_cells_print_something(self, path):
        checked = [cell for cell in cells(path, "code") if text(cell).startswith(CHECKED)]
        assert checked and all(cell["outputs"] for cell in checked)

    def test_names_no_place_on_the_machine_where_it_ran(self, path):
        assert not re.findall(r"(?<![\w.])/(?:home|root|tmp|work|Users)/\S+", "\n".join(outputs(path)))
        assert not any("execution" in cell["metadata"] for cell in cells(path, "code"))


def test_together_they_are_small():
    assert sum(path.stat().st_size for path in NOTEBOOKS) < 2_000_000


def functions(source: str) -> list[ast.FunctionDef]:
    plain = "\n".join(line for line in source.splitlines() if not line.startswith(("%", "!")))
    return [node for node in ast.walk(ast.parse(plain)) if isinstance(node, ast.FunctionDef)]


def package_functions() -> set[str]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {ast.dump(node) for path in files for node in functions(path.read_text())}
