"""One kind of model trained with several seeds: what is the kind's, and what was luck?

Two intervals, for two questions. Over tasks: had there been other tasks of the same kind? Over seeds: had there been other
initial weights, another order of the data and other samples?
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lifecycle.evaluation.card import Row
from lifecycle.evaluation.statistics import student, wilson
from lifecycle.registry import ModelRegistry, ModelVersion

MODELS = {"pretrain": "base", "sft": "SFT", "rlhf-dpo": "DPO", "rlhf": "GRPO"}
"""Stages whose versions answer, in the order in which they follow each other."""
LORA = "SFT+LoRA"
ORDER = ("n-gram", "base", LORA, "SFT", "DPO", "GRPO")


@dataclass(frozen=True, slots=True)
class Summary:
    """One kind of model in one skill: the mean share over all seeds, each of which answered the same `n` tasks."""

    model: str
    skill: str
    mean: float
    low: float
    high: float
    """95% over tasks; several answers to one task are not several tasks."""
    seed_low: float | None
    seed_high: float | None
    """95% over seeds (Student's t); None with a single seed."""
    seeds: tuple[int, ...]
    n: int
    chance: float

    def row(self) -> Row:
        """As a row of a card whose versions are kinds of models."""
        return Row(self.model, self.model, self.skill, self.mean, self.low, self.high, self.n, self.seeds[0], self.chance)


def model_name(version: ModelVersion) -> str | None:
    """"base", "SFT", "SFT+LoRA", "DPO" or "GRPO"; None for what the card does not compare."""
    lora = version.manifest.stage == "sft" and version.manifest.config.get("method") == "lora"
    return LORA if lora else MODELS.get(version.manifest.stage)


def members(registry: ModelRegistry, preset: str | None) -> dict[str, dict[int, ModelVersion]]:
    """By kind of model and seed: of each seed the newest run that came furthest, with all that it was made from.

    So one base model stands behind what is compared, whatever else has been trained since; LoRA's is the newest on it.
    """
    every = [version for name in registry.names() for version in registry.versions(name)]
    of_preset = [version for version in every if version.manifest.preset == preset and model_name(version)]
    last: dict[int, ModelVersion] = {}
    for stage in MODELS:  # later stages, and later versions of one, take the place of earlier ones
        last |= {one.manifest.seed or 0: one for one in of_preset if one.manifest.stage == stage and model_name(one) != LORA}
    found: dict[str, dict[int, ModelVersion]] = {name: {} for name in ORDER}
    for seed, version in sorted(last.items()):
        chain = {model_name(one): one for one in reversed(registry.lineage(version.ref)) if model_name(one)}
        base = chain.get("base")
        for one in of_preset:
            if model_name(one) == LORA and base and base.ref in [parent.ref for parent in one.manifest.parents]:
                chain[LORA] = one
        for name, one in chain.items():
            found[name][seed] = one
    return {name: of_seed for name, of_seed in found.items() if of_seed}


def summarise(model: str, skill: str, right: Mapping[int, Sequence[bool]], chance: float) -> Summary:
    """Of the verdicts of each seed on the same tasks, in the same order."""
    verdicts = list(right.values())
    shares = [sum(one) / len(one) for one in verdicts]
    mean = statistics.fmean(shares)
    per_task = [statistics.fmean(answers) for answers in zip(*verdicts, strict=True)]
    low, high = _over_tasks(mean, per_task, len(verdicts))
    seed_low, seed_high = _over_seeds(mean, shares)
    return Summary(model, skill, mean, low, high, seed_low, seed_high, tuple(right), len(per_task), chance)


def _over_tasks(mean: float, per_task: Sequence[float], answers: int) -> tuple[float, float]:
    """Wilson's interval for as many independent answers as vary so much: between one a task and all that were given."""
    n = len(per_task)
    variance = statistics.variance(per_task) / n if n > 1 else 0.0
    effective = mean * (1 - mean) / variance if variance else n
    effective = min(max(effective, n), n * answers)
    return wilson(mean * effective, effective)


def _over_seeds(mean: float, shares: Sequence[float]) -> tuple[float | None, float | None]:
    if len(shares) < 2:
        return None, None
    half = student(len(shares) - 1) * statistics.stdev(shares) / math.sqrt(len(shares))
    return max(0.0, mean - half), min(1.0, mean + half)


def to_markdown(summaries: Sequence[Summary], lower_is_better: frozenset[str] = frozenset()) -> str:
    """In percent: one line a skill, one column a kind of model: mean (95% over tasks; ± 95% over seeds), chance last."""
    models = list(dict.fromkeys(one.model for one in summaries))
    of = {(one.model, one.skill): one for one in summaries}
    lines = ["| skill | " + " | ".join(models) + " | chance |", "|---" * (len(models) + 2) + "|"]
    for skill in dict.fromkeys(one.skill for one in summaries):
        mark = " (lower is better)" if skill in lower_is_better else ""
        cells = [_cell(of.get((model, skill))) for model in models]
        chance = next(one.chance for one in summaries if one.skill == skill)
        lines.append(f"| {skill}{mark} | " + " | ".join(cells) + f" | {chance:.0%} |")
    return "\n".join(lines) + "\n"


def _cell(one: Summary | None) -> str:
    if one is None:
        return ""
    seeds = "" if one.seed_low is None else f"; seeds {one.seed_low:.0%} to {one.seed_high:.0%}"
    return f"{one.mean:.0%} ({one.low:.0%} to {one.high:.0%}{seeds})"
