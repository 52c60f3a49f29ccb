"""Measure the report card: every kind of model that was trained with a preset, over all seeds; show it in the README.

    lifecycle run --preset tiny --seeds 0,1,2 --lora  # trains what is compared
    python benchmarks/report_card.py                  # measure, write benchmarks/report_card.{json,md}, README, picture
    python benchmarks/report_card.py --preset laptop  # another size: benchmarks/report_card_laptop.{json,md,png}, README
    python benchmarks/report_card.py --render-only    # write all that from the JSON again

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

from results import FIRST, markdown, of_preset, show_in_readme

from lifecycle.world.config import PRESETS

if TYPE_CHECKING:
    from lifecycle.evaluation.examination import Answers
    from lifecycle.registry import ModelRegistry, ModelVersion

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
IMAGES = ROOT / "docs" / "images"
LORA = " (LoRA)"
SAMPLES = 2
"""Tasks of each skill of which the answers are shown side by side."""
LOGGED = ("step", "tokens", "num_tokens", "loss", "mean_token_accuracy", "accuracy", "rewards/margins", "reward", "kl", "tokens_per_second")
POINTS = 120
"""Steps of a training log that are kept, evenly spread, and the last one."""


def name(preset: str) -> str:
    """Of a preset's files."""
    return of_preset("report_card", preset)


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
        "logs": logs(registry, next(iter(list(compared.values())[-1].values()))),
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
        by_stage.setdefault(version.manifest.stage + LORA * lora, []).append(cost)
    return [
        {"stage": stage, "runs": len(every)}
        | {key: statistics.fmean(cost[key] for cost in every) for key in every[0] if all(key in cost for cost in every)}
        for stage, every in sorted(by_stage.items())
    ]


def logs(registry: ModelRegistry, version: ModelVersion) -> dict[str, list[dict[str, float]]]:
    """Of every stage behind a version, and of its own, what was logged in some of its steps."""
    from lifecycle.versions import LOG, read_log

    found = {}
    for one in reversed(registry.lineage(version.ref)):
        if (Path(one.path) / LOG).is_file() and (entries := read_log(one)):
            kept = sorted({round(place * (len(entries) - 1) / (POINTS - 1)) for place in range(POINTS)})
            told = [{key: entries[at][key] for key in LOGGED if key in entries[at]} for at in kept]
            found[one.manifest.stage] = [{key: float(f"{value:.4g}") for key, value in entry.items()} for entry in told]
    return found


def render(measured: dict[str, Any]) -> str:
    """What the README shows: the table, which stages improved their target, where it was measured."""
    from lifecycle.evaluation.improvement import improvements
    from lifecycle.evaluation.seeds import to_markdown
    from lifecycle.evaluation.sets import LOWER_IS_BETTER

    summaries = _summaries(measured)
    most = max(len(one.seeds) for one in summaries)
    minutes, computing = (spent(measured, key) / 60 for key in ("wall_seconds", "cpu_seconds"))
    processor = f" by the clock and {computing:.1f} of a processor" if all("cpu_seconds" in cost for cost in measured["costs"]) else ""
    targets = "".join(f"- {one}\n" for one in improvements(summaries))
    return (
        f"{to_markdown(summaries, LOWER_IS_BETTER)}\n{targets}\n"
        f"Preset `{measured['preset']}`, {most} seed{'s' * (most != 1)}, {summaries[0].n} held-out tasks a skill; in brackets the 95% "
        f"interval over tasks{' and the one over seeds' * (most > 1)}. One seed's training took {minutes:.1f} minutes"
        f"{processor}; the card was made on {measured['machine']}, {measured['date']}.\n"
    )


def details(measured: dict[str, Any]) -> str:
    """What only the Markdown beside the JSON shows: costs, and answers side by side."""
    from lifecycle.evaluation.examination import Sample

    samples = "\n".join(Sample(**sample).to_markdown() for sample in measured["samples"])
    learning = f"\n## Loss on the way\n\n{_loss_table(measured['logs'])}" if measured.get("logs") else ""
    return f"\n## Costs\n\n{_cost_table(measured['costs'])}{learning}" + (f"\n## Answers side by side\n\n{samples}" if samples else "")


def _loss_table(of_stage: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A row a stage: its loss after tenths of its steps, each the median of the points around it."""

    def around(entries: Sequence[Mapping[str, float]], tenth: int) -> float:
        middle = tenth * (len(entries) - 1) // 10
        return statistics.median(entry["loss"] for entry in entries[max(0, middle - 2) : middle + 3] if "loss" in entry)

    return markdown([{"stage": stage} | {f"{10 * tenth}%": around(entries, tenth) for tenth in range(11)} for stage, entries in of_stage.items()])


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

    table, preset = render(measured), measured["preset"]
    (BENCHMARKS / f"{name(preset)}.md").write_text(f"# Report card of `{preset}`\n\n{table}{details(measured)}")
    draw(ReportCard(tuple(one.row() for one in _summaries(measured)))).savefig(IMAGES / f"{name(preset)}.png", dpi=110)
    if preset == FIRST:
        show_in_readme("report card", "report_card", table)
    show_in_readme("sizes", "report_card", sizes())
    print(table)
    print(json.dumps({key: value for key, value in measured.items() if key not in ("rows", "samples", "logs")}))


def sizes() -> str:
    """The last model of every preset that has a card here: what more parameters and more text bring."""
    cards = [json.loads(path.read_text()) for path in (BENCHMARKS / f"{name(preset)}.json" for preset in PRESETS) if path.is_file()]
    last = [[one for one in _summaries(card) if one.model == card["summaries"][-1]["model"]] for card in cards]
    titles = [f"`{card['preset']}`" for card in cards]
    rows = [
        {"skill": summaries[0].skill} | {title: f"{one.mean:.0%} ({one.low:.0%} to {one.high:.0%})" for title, one in zip(titles, summaries, strict=True)}
        for summaries in zip(*last, strict=True)
    ]
    told = {
        "seeds": [str(len(one[0].seeds)) for one in last],
        "tokens trained on": [f"{spent(card, 'tokens') / 1e6:.0f}M" for card in cards],
        "minutes of training": [f"{spent(card, 'wall_seconds') / 60:.0f}" for card in cards],
        "of a processor": [f"{spent(card, 'cpu_seconds') / 60:.0f}" for card in cards],
    }
    rows += [{"skill": what} | dict(zip(titles, values, strict=True)) for what, values in told.items()]
    return markdown(rows)


def spent(measured: Mapping[str, Any], key: str) -> float:
    """Of one seed's way to its last model, which does not lead over LoRA."""
    return sum(cost.get(key, 0.0) for cost in measured["costs"] if not cost["stage"].endswith(LORA))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default=FIRST)
    parser.add_argument("--limit", type=int, help="only the first N tasks of each skill")
    parser.add_argument("--render-only", action="store_true")
    parser.add_argument("--json", type=Path, help="where the measurement goes in place of benchmarks/; nothing else is written then")
    arguments = parser.parse_args()
    target = arguments.json or BENCHMARKS / f"{name(arguments.preset)}.json"
    if not arguments.render_only:
        from lifecycle.registry import ModelRegistry

        measured = measure(ModelRegistry(), arguments.preset, arguments.limit)
        target.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n")
    measured = json.loads(target.read_text())
    if arguments.json is None:
        show(measured)
    else:
        print(render(measured))
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
