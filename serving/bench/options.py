"""The options that `lifecycle bench` and `lifecycle simulate` share, named as in vLLM's benchmark, and what they mean."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from lifecycle.config import choose
from lifecycle.errors import LifecycleError
from serving.application.recording import InvalidRecording, Recording
from serving.bench.metrics import METRICS
from serving.bench.workload import (
    Job,
    Lengths,
    Traffic,
    prefix_repetition_jobs,
    random_jobs,
    recorded_jobs,
    with_rate,
)

FILE = click.Path(dir_okay=False, path_type=Path)
DATASETS = ("random", "prefix-repetition", "recorded")
LENGTH = click.IntRange(min=1)
POSITIVE = click.FloatRange(min=0, min_open=True)

_WORKLOAD = (
    click.option("--dataset-name", type=click.Choice(DATASETS), default="random", show_default=True),
    click.option("--dataset-path", type=FILE, help="For recorded: a file of lifecycle serve --record."),
    click.option("--num-prompts", type=LENGTH, help="How many requests; of a recording all by default."),
    click.option("--input-len", type=LENGTH, default=128, show_default=True, help="Prompt tokens."),
    click.option("--output-len", type=LENGTH, default=64, show_default=True, help="Answer tokens."),
    click.option("--range-ratio", type=click.FloatRange(0, 1), default=0.0, help="Lengths vary by this share."),
    click.option(
        "--prefix-len", type=LENGTH, default=256, help="For prefix-repetition: shared tokens before the rest."
    ),
    click.option("--num-prefixes", type=LENGTH, default=1, help="For prefix-repetition: how many such texts."),
    click.option("--seed", default=0, show_default=True, help="The same seed, the same workload."),
)
_TRAFFIC = (
    click.option("--request-rate", type=POSITIVE, help="Requests per second; inf: all at once."),
    click.option("--burstiness", type=POSITIVE, default=1.0, help="1: Poisson arrivals; less: burstier."),
)
_SAMPLING = (
    click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0: the likeliest token."),
    click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="Draw among the likeliest tokens of this share."),
    click.option("--top-k", type=LENGTH, help="Draw among so many of the likeliest tokens."),
    click.option("--min-p", type=click.FloatRange(0, 1), help="Least probability, as a share of the likeliest token's."),
)
SAMPLING = ("temperature", "top_p", "top_k", "min_p")
_METRICS = (
    click.option("--goodput", multiple=True, metavar="METRIC:MS", help="A promise to keep, such as ttft:200."),
    click.option("--percentile-metrics", default="ttft,tpot,itl", show_default=True, help=f"Of {', '.join(METRICS)}."),
    click.option("--metric-percentiles", default="50,90,99", show_default=True),
)


def _add(options: tuple[Callable, ...]) -> Callable[[Callable], Callable]:
    def decorate(command: Callable) -> Callable:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


workload_options = _add(_WORKLOAD)
"""Adds what `Workload` reads."""
sampling_options = _add(_SAMPLING)
"""Adds what `drawn_by` reads."""
traffic_options = _add(_TRAFFIC)
"""Adds `request_rate` and `burstiness`."""
metric_options = _add(_METRICS)
"""Adds what `Shown.read` reads."""


def drawn_by(options: dict[str, Any]) -> dict[str, float]:
    """How tokens are chosen, taken out of a command's options."""
    return {name: value for name in SAMPLING if (value := options.pop(name)) is not None}


@dataclass(frozen=True, slots=True)
class Workload:
    """The workload's options as given."""

    dataset_name: Literal["random", "prefix-repetition", "recorded"] = "random"
    dataset_path: Path | None = None
    num_prompts: int | None = None
    input_len: int = 128
    output_len: int = 64
    range_ratio: float = 0.0
    prefix_len: int = 256
    num_prefixes: int = 1
    seed: int = 0

    def jobs(self, traffic: Traffic | None, *, default_count: int) -> Iterator[Job]:
        """The requests in order of arrival. Without `traffic` a recording keeps its own, everything else comes at once."""
        if self.dataset_name == "recorded":
            return self._recorded(traffic)
        count = self.num_prompts or default_count
        lengths = Lengths(self.input_len, self.output_len, self.range_ratio)
        traffic = traffic or Traffic()
        if self.dataset_name == "random":
            return random_jobs(count, lengths, traffic, self.seed)
        return prefix_repetition_jobs(
            count,
            lengths,
            traffic,
            prefix_tokens=self.prefix_len,
            num_prefixes=self.num_prefixes,
            seed=self.seed,
        )

    def _recorded(self, traffic: Traffic | None) -> Iterator[Job]:
        if self.dataset_path is None:
            raise LifecycleError("which recording? Add --dataset-path FILE, written by lifecycle serve --record FILE")
        jobs = recorded_jobs(read_recording(self.dataset_path))
        if not jobs:
            raise LifecycleError(f"{self.dataset_path} has no request that was answered")
        if traffic is not None:
            jobs = with_rate(jobs, traffic, self.seed)
        return itertools.islice(iter(jobs), self.num_prompts)


@dataclass(frozen=True, slots=True)
class Shown:
    """Which figures a command shows; `slo` in seconds."""

    metrics: tuple[str, ...]
    percentiles: tuple[float, ...]
    slo: dict[str, float]

    @classmethod
    def read(cls, goodput: tuple[str, ...], percentile_metrics: str, metric_percentiles: str) -> Shown:
        """Raises LifecycleError naming what is wrong."""
        known = dict.fromkeys(METRICS)
        metrics = tuple(word.strip() for word in percentile_metrics.split(",") if word.strip())
        for metric in metrics:
            choose("metric", metric, known)
        try:
            percentiles = tuple(float(word) for word in metric_percentiles.split(","))
        except ValueError:
            percentiles = (math.nan,)
        if not all(0 <= percentile <= 100 for percentile in percentiles):
            raise LifecycleError(f'cannot read the percentiles "{metric_percentiles}": write for example 50,90,99')
        return cls(metrics, percentiles, dict(_promise(word) for word in " ".join(goodput).split()))


def _promise(word: str) -> tuple[str, float]:
    metric, colon, limit = word.partition(":")
    try:
        milliseconds = float(limit) if colon else math.nan
    except ValueError:
        milliseconds = math.nan
    if not milliseconds > 0:
        raise LifecycleError(f'cannot read the promise "{word}": write METRIC:MILLISECONDS, for example ttft:200')
    promises = {metric: None for metric in METRICS if metric != "itl"}  # an ITL belongs to no single request
    choose("metric to promise", metric, promises)
    return metric, milliseconds / 1000


def read_recording(path: Path) -> Recording:
    """Raises LifecycleError when there is no such file or it is no recording."""
    try:
        return Recording.read(path)
    except OSError as error:
        raise LifecycleError(f"cannot read {path}: {error.strerror}") from None
    except InvalidRecording as error:
        raise LifecycleError(f"{path}: {error}") from None
