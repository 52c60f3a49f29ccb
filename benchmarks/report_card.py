"""Measure the report card of the chain behind "production", and show it in the README.

    python benchmarks/report_card.py                  # measure, write benchmarks/report_card.{json,md}, README, picture
    python benchmarks/report_card.py --render-only    # write the README and the Markdown from the JSON again

Prints the table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path

from results import show_in_readme

ROOT = Path(__file__).resolve().parents[1]
JSON = ROOT / "benchmarks" / "report_card.json"
MARKDOWN = ROOT / "benchmarks" / "report_card.md"
PICTURE = ROOT / "docs" / "images" / "report_card.png"


def measure() -> dict:
    """All rows of all stages behind "production", the seconds that each stage took, machine, date and versions."""
    from lifecycle.evaluation import report
    from lifecycle.evaluation.commands import chain
    from lifecycle.evaluation.plot import draw
    from lifecycle.registry import ModelRegistry
    from serving.bench.report import machine

    registry = ModelRegistry()
    card = report(chain(registry), progress=print)
    draw(card).savefig(PICTURE, dpi=110)
    lineage = registry.lineage("production")[::-1]
    return {
        "benchmark": "report_card",
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "libraries": dict(lineage[-1].manifest.libraries),
        "preset": lineage[-1].manifest.preset,
        "seconds": {version.ref: version.manifest.seconds for version in lineage},
        "results": [asdict(row) for row in card.rows],
    }


def render(measured: dict) -> str:
    """The table in Markdown with what it took and where."""
    from lifecycle.evaluation.card import ReportCard, Row

    card = ReportCard(tuple(Row(**row) for row in measured["results"]))
    seconds = measured["seconds"]
    steps = ", ".join(f"{ref} {value:.0f} s" for ref, value in seconds.items() if value)
    total = sum(value for value in seconds.values() if value)
    return (
        card.to_markdown()
        + f"\nPreset `{measured['preset']}`, {card.rows[0].n} held-out tasks a skill, 95% intervals. Trained in {total / 60:.1f} minutes "
        + f"({steps}) on {measured['machine']}, {measured['date']}.\n"
    )


def show(table: str) -> None:
    """Put the table into its file and between the markers of the README."""
    MARKDOWN.write_text("# Report card\n\n" + table)
    show_in_readme("report card", "report_card", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--json", type=Path, default=JSON, help="where the measurement goes")
    arguments = parser.parse_args()
    if not arguments.render_only:
        arguments.json.write_text(json.dumps(measure(), indent=1) + "\n")
    measured = json.loads(arguments.json.read_text())
    table = render(measured)
    show(table)
    print(table)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
