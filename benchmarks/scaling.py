"""How loss and skill grow with tokens and with parameters: a few small pretraining runs on text of the same world.

    python benchmarks/scaling.py                      # six runs, a quarter of an hour on two cores; writes benchmarks/scaling.{json,md}
    python benchmarks/scaling.py --sizes 1 --tokens 100000 --limit 20 --json /tmp/scaling.json

Each run is a version in build/benchmarks/scaling: what is there is not trained again. The learning rate of every run falls to
its end, and its text has the whole curriculum, so a short run is not the beginning of a long one. Skills are those that need no chat. Prints the table and, last,
one JSON line.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results import BUILD, markdown, publish

from lifecycle.evaluation import examination, sets
from lifecycle.evaluation.statistics import wilson
from lifecycle.model import tokenizer_stage
from lifecycle.model.presets import ModelConfig
from lifecycle.presets import preset
from lifecycle.pretrain import PretrainConfig, run
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.world.config import WorldConfig
from lifecycle.world.corpus import pretraining_corpus

SKILLS = ("sums", "reading", "story_consistency")
WIDTHS = (64, 96, 128)
TOKENS = (1_150_000, 4_600_000)
FEWEST = 100
"""Documents of a text, however short."""


def shape(width: int) -> ModelConfig:
    """The tiny decoder in another width: heads stay 32 wide, and the feed-forward block three times the stream."""
    heads = width // 32
    return dataclasses.replace(ModelConfig(), hidden_size=width, num_heads=heads, num_kv_heads=heads, intermediate_size=3 * width)


def train(
    registry: ModelRegistry, world: WorldConfig, shapes: Sequence[ModelConfig], budgets: Sequence[int], base: PretrainConfig
) -> list[ModelVersion]:
    """One version for each shape and budget, smallest first. `base` has the tokens that `world` has text for."""
    told = {tokens: pretraining_corpus(_of_length(world, tokens / base.tokens)) for tokens in budgets}
    longest, _, data = told[max(budgets)]
    words = tokenizer_stage.run(tokenizer_stage.TokenizerConfig(shapes[0].vocab_size), registry, longest["text"], data)
    versions = []
    for model in shapes:
        for tokens, (documents, validation, data) in told.items():
            config = dataclasses.replace(base, model=model, tokens=tokens, sample_every=0)
            versions.append(run(config, registry, dataset=documents, validation=validation, data=data, tokenizer=words))
            print(f"{model.num_parameters:,} parameters, {tokens:,} tokens: {versions[-1].ref}", flush=True)
    return versions


def _of_length(world: WorldConfig, part: float) -> WorldConfig:
    return dataclasses.replace(world, documents=max(FEWEST, round(part * world.documents)))


def measure(version: ModelVersion, limit: int | None) -> dict[str, Any]:
    """One point: size, tokens, held-out loss in nats, and each skill's share with its 95% interval."""
    tasks_of = {skill: sets.load(skill, limit) for skill in SKILLS}
    metrics = version.manifest.metrics
    point = {
        "parameters": metrics["parameters"],
        "tokens": metrics["tokens"],
        "loss": metrics["validation_loss"],
        "bits_per_byte": metrics["bits_per_byte"],
        "flops": version.manifest.cost["flops"],
        "seconds": version.manifest.cost["wall_seconds"],
    }
    for skill, answers in examination.examine(version, tasks_of).items():
        low, high = wilson(sum(answers.right), len(answers.right))
        point[skill] = {"value": answers.share, "low": low, "high": high, "n": len(answers.right)}
    return point


def exponents(points: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """How steeply the loss falls: a and b of loss ~ parameters^-a tokens^-b, by least squares of the logarithms.

    Over so small a range a straight line fits anything; it says little of larger models. None where nothing varies.
    """
    found: dict[str, float | None] = {"parameters": None, "tokens": None}
    varying = [axis for axis in found if len({point[axis] for point in points}) > 1]
    logs = [[math.log(point[axis]) for axis in varying] + [1.0] for point in points]
    slopes = np.linalg.lstsq(np.array(logs), np.log([point["loss"] for point in points]), rcond=None)[0]
    return {**found, **{axis: -float(slope) for axis, slope in zip(varying, slopes, strict=False)}}


def table(points: Sequence[dict[str, Any]]) -> str:
    """In Markdown, one line a point."""

    def share(point: dict[str, Any], skill: str) -> str:
        return "{value:.0%} ({low:.0%} to {high:.0%})".format(**point[skill])

    return markdown(
        [
            {
                "parameters": f"{point['parameters']:,}",
                "tokens": f"{point['tokens']:,}",
                "loss (nats)": f"{point['loss']:.3f}",
                **{skill: share(point, skill) for skill in SKILLS},
                "seconds": f"{point['seconds']:.0f}",
            }
            for point in points
        ]
    )


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=len(WIDTHS), help="how many of the widths, from the smallest")
    parser.add_argument("--tokens", type=int, nargs="+", default=TOKENS)
    parser.add_argument("--limit", type=int, help="only the first N tasks of each skill")
    parser.add_argument("--json", type=Path, help="where the measurement goes")
    arguments = parser.parse_args(words)
    config = preset("tiny")
    shapes = [shape(width) for width in WIDTHS[: arguments.sizes]]
    versions = train(ModelRegistry(BUILD / "scaling"), config.world, shapes, arguments.tokens, config.pretrain)
    points = [measure(version, arguments.limit) for version in versions]
    slopes = exponents(points)
    told = ", ".join(f"{axis}^-{slope:.2f}" for axis, slope in slopes.items() if slope is not None)
    note = f"\nLoss ~ {told}, over this range.\n" if told else ""
    publish("scaling", {"points": points, "exponents": slopes}, "Scaling", table(points) + note, arguments.json)


if __name__ == "__main__":
    main()
