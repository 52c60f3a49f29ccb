"""Where a benchmark's figures go: benchmarks/<name>.json and .md beside the script, a table and one JSON line on screen."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from serving.bench.report import machine

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
FIRST = "tiny"
"""The preset that everybody begins with, and whose whole report card the README shows."""
BUILD = HERE.parent / "build" / "benchmarks"
"""Models and recordings; not under version control."""


def publish(name: str, figures: dict[str, Any], title: str, text: str, json_file: Path | None = None) -> None:
    """`text` is Markdown below the title; machine and date are added."""
    threads = torch.get_num_threads()
    found = {
        "benchmark": name,
        "machine": f"{machine()}, {threads} torch thread{'s' * (threads != 1)}",
        "date": time.strftime("%Y-%m-%d"),
        "torch": torch.__version__,
        **figures,
    }
    target = json_file or HERE / f"{name}.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    note = f"{found['machine']}, {found['date']}, torch {found['torch']}"
    target.with_suffix(".md").write_text(f"# {title}\n\n{text}\nMeasured on {note}, by `benchmarks/{name}.py`.\n")
    print(text)
    print(json.dumps(found))


def show_in_readme(subject: str, script: str, text: str) -> None:
    """Put a table between the README's markers of this subject."""
    begin, end = markers(subject, script)
    before, rest = README.read_text().split(begin)
    README.write_text(f"{before}{begin}\n{text}{end}{rest.split(end)[1]}")


def markers(subject: str, script: str) -> tuple[str, str]:
    """Where in the README a table begins, and where it ends."""
    return f"<!-- {subject}: written by benchmarks/{script}.py -->", f"<!-- end of {subject} -->"


def of_preset(benchmark: str, preset: str) -> str:
    """What the files of a benchmark are called that is made of every preset by itself."""
    return benchmark if preset == FIRST else f"{benchmark}_{preset}"


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Figure by figure over repeated runs: one that was disturbed does not count."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def markdown(rows: list[dict[str, Any]]) -> str:
    """A table; the first row's keys are the columns."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row[column]) for column in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
