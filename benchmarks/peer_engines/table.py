"""From figures to a table: who reached what, and how far ahead of its best peer our engine is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from peer_engines.contender import Phase

Column = tuple[Phase, int]
OURS = "ours"


def results(model: str, runs: Mapping[tuple[str, str, Phase, int], Sequence[float]]) -> list[dict[str, Any]]:
    """One entry per engine, precision, phase and batch, with the median of its runs; nothing where there are no runs."""
    return [
        {
            "model": model,
            "engine": engine,
            "precision": precision,
            "phase": phase,
            "batch": batch,
            "tokens_per_s": round(statistics.median(found), 1),
            "runs": [round(value, 1) for value in found],
        }
        for (engine, precision, phase, batch), found in runs.items()
        if found
    ]


def ratios(found: Sequence[dict[str, Any]]) -> dict[tuple[str, str], dict[Column, float]]:
    """By engine of ours and precision: tokens per second over those of the best peer in the same column."""
    best: dict[Column, float] = {}
    for entry in found:
        if not _is_ours(entry):
            column = entry["phase"], entry["batch"]
            best[column] = max(best.get(column, 0.0), entry["tokens_per_s"])
    ahead: dict[tuple[str, str], dict[Column, float]] = {}
    for entry in found:
        column = entry["phase"], entry["batch"]
        if _is_ours(entry) and column in best:
            key = entry["engine"], entry["precision"]
            ahead.setdefault(key, {})[column] = round(entry["tokens_per_s"] / best[column], 2)
    return ahead


def table(found: Sequence[dict[str, Any]], limits: Mapping[Column, float | None]) -> str:
    """Markdown of one model: tokens per second, then ours over the best peer, then the limit of the machine."""
    columns = list(dict.fromkeys((entry["phase"], entry["batch"]) for entry in found))
    rows: dict[tuple[str, str], dict[Column, str]] = {}
    for entry in found:
        row = rows.setdefault((entry["engine"], entry["precision"]), {})
        row[entry["phase"], entry["batch"]] = f"{entry['tokens_per_s']:.0f}"
    for (engine, precision), row in ratios(found).items():
        rows[f"**{engine} / best peer**", precision] = {column: f"**{value:.2f}**" for column, value in row.items()}
    rows["limit of the machine", "bf16"] = {column: f"{value:.0f}" for column, value in limits.items() if value}
    heads = ["tokens/s", "", *(f"{phase} {batch}" for phase, batch in columns)]
    lines = [_line(heads), "|---|---|" + "--:|" * len(columns)]
    lines += [_line([*names, *(row.get(column, "-") for column in columns)]) for names, row in rows.items()]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _is_ours(entry: dict[str, Any]) -> bool:
    return entry["engine"].split()[0] == OURS
