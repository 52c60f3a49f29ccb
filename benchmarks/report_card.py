"""Measure the report card: every kind of model that was trained with a preset, over all seeds; show it in the README.

    lifecycle run --preset tiny --seeds 0,1,2 --lora  # trains what is compared
    python benchmarks/report_card.py                  # measure, write benchmarks/report_card.{json,md}, README, picture
    python benchmarks/report_card.py --render-only    # write the README and the Markdown from the JSON again

Compared are base, SFT with LoRA, SFT, DPO and GRPO, of each seed the newest whole run, and an n-gram model of the same text.
Prints the table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import markdown, show_in_readme

if TYPE_CHECKING:
    from lifecycle.evaluation.examination import Answers
    from lifecycle.registry import ModelRegistry, ModelVersion

ROOT = Path(__file__).resolve().parents[1]
JSON = ROOT / "benchmarks" / "report_card.json"
MARKDOWN = ROOT / "benchmarks" / "report_card.md"
PICTURE = ROOT / "docs" / "images" / "report_card.png"
SAMPLES = 2
"""Tasks of each skill of which the answers are shown side by side."""


def measure(registry: ModelRegistry, preset: str, limit: int | None = None) -> dict[str, Any]:
    """All rows, their summaries over seeds, sample answers and costs, with machine, date and libraries."""
    from lifecycle.evaluation import card, examination, ngram, seeds, sets
    from lifecycle.registry.provenance import libraries
    from serving.bench.report import machine

    tasks_of = {skill: sets.load(skill, limit) for skill in sets.SKILLS}
    compared = seeds.members(registry, preset)
    if not compared:
        raise SystemExit(f"nothing to compare: train with lifecycle run --preset {preset} --seeds 0,1,2 --lora")
    answers: dict[str, dict[int, dict[str, Answers]]] = {}
    if "base" in compared:  # what was imported was trained on other text
        answers[ngram.NAME] = {0: _of_ngrams(registry, next(iter(compared["base"].values())), preset, tasks_of)}
    rows = []
    for model, of_seed in compared.items():
        for seed, version in of_seed.items():
            print(f"{model}, seed {seed}: {version.ref}", flush=True)
            given = examination.examine(registry.load(version.ref), tasks_of)
            answers.setdefault(model, {})[seed] = given
            rows += [card.row(version, skill, tasks, given[skill]) for skill, tasks in tasks_of.items()]
    summaries = [
        seeds.summarise(model, skill, {seed: given[skill].right for seed, given in of_seed.items()}, card.chance(tasks))
        for skill, tasks in tasks_of.items()
        for model, of_seed in answers.items()
    ]
    shown = {model: next(iter(of_seed.values())) for model, of_seed in answers.items()}
    return {
        "benchmark": "report_card",
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "libraries": libraries(),
        "preset": preset,
        "costs": costs(registry, [version for of_seed in compared.values() for version in of_seed.values()]),
        "rows": [asdict(row) for row in rows],
        "summaries": [asdict(one) for one in summaries],
        "samples": [asdict(sample) for sample in examination.samples(tasks_of, shown, SAMPLES)],
    }


def _of_ngrams(registry: ModelRegistry, base: ModelVersion, preset: str, tasks_of: Mapping[str, Sequence]) -> dict[str, Answers]:
    from lifecycle.evaluation import ngram
    from lifecycle.evaluation.examination import Answers
    from lifecycle.model.tokenizer import load_tokenizer
    from lifecycle.presets import preset as preset_named
    from lifecycle.world.corpus import pretraining_corpus

    print("n-grams of the text that the base model was trained on", flush=True)
    tokenizer = load_tokenizer(base.path)
    documents, _, _ = pretraining_corpus(preset_named(preset).world)
    model = ngram.NGram.of_texts(documents["text"], tokenizer)
    return {skill: Answers.judge(tasks, ngram.answer(model, tokenizer, tasks)) for skill, tasks in tasks_of.items()}


def costs(registry: ModelRegistry, compared: Sequence[ModelVersion]) -> list[dict[str, Any]]:
    """Of every stage behind the compared versions, by its name: the mean over its versions of each figure."""
    behind = {one.ref: one for version in compared for one in registry.lineage(version.ref)}
    by_stage: dict[str, list[Mapping[str, Any]]] = {}
    for version in behind.values():
        lora = version.manifest.config.get("method") == "lora"
        cost = {"wall_seconds": version.manifest.seconds or 0.0, **version.manifest.cost}
        by_stage.setdefault(version.manifest.stage + " (LoRA)" * lora, []).append(cost)
    return [
        {"stage": stage, "runs": len(every)}
        | {key: statistics.fmean(cost[key] for cost in every) for key in every[0] if all(key in cost for cost in every)}
        for stage, every in sorted(by_stage.items())
    ]


def render(measured: dict[str, Any]) -> str:
    """What the README shows: the table, which stages improved their target, where it was measured."""
    from lifecycle.evaluation.improvement import improvements
    from lifecycle.evaluation.seeds import to_markdown
    from lifecycle.evaluation.sets import LOWER_IS_BETTER

    summaries = _summaries(measured)
    most = max(len(one.seeds) for one in summaries)
    minutes = sum(cost["wall_seconds"] for cost in measured["costs"]) / 60
    computing = [cost["cpu_seconds"] / 60 for cost in measured["costs"] if "cpu_seconds" in cost]
    processor = f", {sum(computing):.1f} of them a processor's" if len(computing) == len(measured["costs"]) else ""
    targets = "".join(f"- {one}\n" for one in improvements(summaries))
    return (
        f"{to_markdown(summaries, LOWER_IS_BETTER)}\n{targets}\n"
        f"Preset `{measured['preset']}`, {most} seed{'s' * (most != 1)}, {summaries[0].n} held-out tasks a skill; in brackets the 95% "
        f"interval over tasks{' and the one over seeds' * (most > 1)}. One seed's training took {minutes:.1f} minutes"
        f"{processor}, on {measured['machine']}, {measured['date']}.\n"
    )


def details(measured: dict[str, Any]) -> str:
    """What only the Markdown beside the JSON shows: costs, and answers side by side."""
    from lifecycle.evaluation.examination import Sample

    samples = "\n".join(Sample(**sample).to_markdown() for sample in measured["samples"])
    return f"\n## Costs\n\n{_cost_table(measured['costs'])}" + (f"\n## Answers side by side\n\n{samples}" if samples else "")


def _cost_table(found: Sequence[Mapping[str, Any]]) -> str:
    columns = {
        "tokens": ("tokens", 1),
        "seconds": ("wall_seconds", 1),
        "processor seconds": ("cpu_seconds", 1),
        "peak MiB": ("peak_memory_bytes", 2**20),
        "kJ": ("joules", 1000),
    }
    told = {title: where for title, where in columns.items() if any(where[0] in cost for cost in found)}
    return markdown(
        [
            {"stage": cost["stage"], "runs": cost["runs"]}
            | {title: f"{cost[key] / unit:,.0f}" if key in cost else "" for title, (key, unit) in told.items()}
            for cost in found
        ]
    )


def _summaries(measured: dict[str, Any]) -> list:
    from lifecycle.evaluation.seeds import Summary

    return [Summary(**{**one, "seeds": tuple(one["seeds"])}) for one in measured["summaries"]]


def show(measured: dict[str, Any]) -> None:
    """Write the Markdown, the README's part and the picture."""
    from lifecycle.evaluation.card import ReportCard
    from lifecycle.evaluation.plot import draw

    table = render(measured)
    MARKDOWN.write_text(f"# Report card\n\n{table}{details(measured)}")
    show_in_readme("report card", "report_card", table)
    draw(ReportCard(tuple(one.row() for one in _summaries(measured)))).savefig(PICTURE, dpi=110)
    print(table)
    print(json.dumps({key: value for key, value in measured.items() if key not in ("rows", "samples")}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--limit", type=int, help="only the first N tasks of each skill")
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--json", type=Path, default=JSON, help="where the measurement goes; elsewhere, nothing else is written")
    arguments = parser.parse_args()
    if not arguments.render_only:
        from lifecycle.registry import ModelRegistry

        measured = measure(ModelRegistry(), arguments.preset, arguments.limit)
        arguments.json.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
    measured = json.loads(arguments.json.read_text())
    if arguments.json == JSON:
        show(measured)
    else:
        print(render(measured))
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
