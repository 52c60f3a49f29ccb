"""`lifecycle bench` and `lifecycle timeline`: measure the engine, and look at what it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from lifecycle.config import check_output, override, parse_assignments
from lifecycle.errors import LifecycleError
from serving.bench.metrics import Latencies, table
from serving.bench.options import (
    FILE,
    Shown,
    Workload,
    drawn_by,
    metric_options,
    read_recording,
    sampling_options,
    traffic_options,
    workload_options,
)
from serving.bench.report import emit, machine
from serving.bench.workload import Traffic


@click.group()
def bench() -> None:
    """Measure the engine: throughput in this process, or latency of a running server over HTTP."""


@bench.command()
@click.option("--model", default="production", show_default=True, help="A version, an alias or a directory.")
@click.option("--backend", help="How to run the model; auto by default.")
@click.option("--policy", help="Batching policy.")
@click.option("--dtype", help="auto, float32, bfloat16 or int8.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other knob of the engine.")
@click.option("--record", type=FILE, help="Also write what the engine did, for lifecycle timeline.")
@click.option("--json", "json_file", type=FILE, help="Also write the figures here.")
@sampling_options
@workload_options
def throughput(
    model: str,
    assignments: tuple[str, ...],
    record: Path | None,
    json_file: Path | None,
    backend: str | None,
    policy: str | None,
    dtype: str | None,
    **options: Any,
) -> None:
    """Tokens per second of an engine that always has enough to do; all requests arrive at once.

    Stop tokens are ignored: every answer has exactly as many tokens as asked for.
    """
    from serving.bench.inprocess import run
    from serving.infrastructure.config import ServingConfig

    knobs = {"backend": backend, "policy": policy, "dtype": dtype}
    given = {key: value for key, value in knobs.items() if value is not None}
    config = override(ServingConfig(), {**given, **parse_assignments(assignments)})
    sampling = drawn_by(options)
    jobs = list(Workload(**options).jobs(Traffic(), default_count=32))
    directory = checkpoint(model)
    with progress_bar(sum(job.output_tokens for job in jobs), "token") as advance:
        found = run(directory, config, jobs, sampling=sampling, record=record, progress=advance).throughput()
    click.echo(
        f"{found['output_tokens_per_s']:.1f} output tokens/s, {found['total_tokens_per_s']:.1f} with prompts, "
        f"{found['requests_per_s']:.2f} requests/s ({len(jobs)} requests in {found['elapsed_time']:.2f} s)"
    )
    click.echo(breakdown(found["parts"]))
    engine = {"model": model, "policy": config.policy, **given, **sampling}
    emit({"benchmark": "throughput", **engine, "machine": machine(), **found}, json_file)


def breakdown(parts: Mapping[str, float]) -> str:
    """Where the time of a step goes, in per cent of the whole."""
    whole = sum(parts.values()) or 1.0
    return "of a step: " + ", ".join(f"{name} {seconds / whole:.1%}" for name, seconds in parts.items())


@bench.command("serve")
@click.option("--base-url", default="http://127.0.0.1:8000", show_default=True, help="The server.")
@click.option("--model", help="Which of its models; the first one by default.")
@click.option("--api-key", envvar="LIFECYCLE_API_KEY", help="Also LIFECYCLE_API_KEY.")
@click.option("--max-concurrency", type=click.IntRange(min=1), help="Most requests in flight.")
@click.option("--json", "json_file", type=FILE, help="Also write the figures here.")
@sampling_options
@workload_options
@traffic_options
@metric_options
def bench_serve(
    base_url: str,
    model: str | None,
    api_key: str | None,
    max_concurrency: int | None,
    json_file: Path | None,
    request_rate: float | None,
    burstiness: float,
    goodput: tuple[str, ...],
    percentile_metrics: str,
    metric_percentiles: str,
    **options: Any,
) -> None:
    """Latency of a running server: streams completions over HTTP, arriving as --request-rate says.

    Answers have exactly as many tokens as asked for, whatever the model would like to say.
    """
    from serving.bench.client import Server, drive, latencies

    shown = Shown.read(goodput, percentile_metrics, metric_percentiles)
    traffic = None if request_rate is None else Traffic(rate=request_rate, burstiness=burstiness)
    sampling = drawn_by(options)
    jobs = list(Workload(**options).jobs(traffic, default_count=100))
    server = Server(base_url.rstrip("/"), api_key, model, sampling)
    name = server.check()
    with progress_bar(len(jobs), "request") as advance:
        exchanges = drive(server, jobs, max_concurrency=max_concurrency, progress=lambda _: advance(1))
    errors = [exchange.error for exchange in exchanges if exchange.error]
    if len(errors) == len(jobs):
        raise LifecycleError(f"every request failed, the first with: {errors[0]}")
    figures = latencies(exchanges, shown.slo).figures(shown.percentiles, shown.metrics)
    print_latencies(figures, shown)
    if errors:
        click.echo(f"{len(errors)} of {len(jobs)} requests failed, the first with: {errors[0]}", err=True)
    load = {"model": name, "request_rate": request_rate, "max_concurrency": max_concurrency, **sampling}
    emit({"benchmark": "serve", **load, "failed": len(errors), **figures}, json_file)


@click.command()
@click.argument("file", type=FILE)
@click.option("--out", type=FILE, default=Path("timeline.svg"), show_default=True, help="An .svg, .png or .pdf file.")
@click.option("--from", "start", type=float, help="Seconds after the first request.")
@click.option("--to", "stop", type=float, help="Seconds after the first request.")
@click.option("--title", help="Above the picture.")
@metric_options
def timeline(
    file: Path,
    out: Path,
    start: float | None,
    stop: float | None,
    title: str | None,
    goodput: tuple[str, ...],
    percentile_metrics: str,
    metric_percentiles: str,
) -> None:
    """Draw a recording of lifecycle serve --record: who ran when, the KV memory, and where the time went."""
    from serving.bench.timeline import draw

    shown = Shown.read(goodput, percentile_metrics, metric_percentiles)
    if out.suffix not in (".svg", ".png", ".pdf"):
        raise LifecycleError(f'cannot draw into "{out}": name an .svg, .png or .pdf file with --out')
    check_output(out)
    recording = read_recording(file)
    draw(recording, start=start, stop=stop, title=title).savefig(out, dpi=150)
    print_latencies(Latencies.of(recording, shown.slo).figures(shown.percentiles, shown.metrics), shown)
    click.echo(f"drawn into {out}")


def checkpoint(model: str) -> Path:
    """The directory of a version, or the directory itself."""
    from lifecycle.registry import ModelRegistry

    directory = Path(model)
    return directory if (directory / "config.json").is_file() else ModelRegistry().load(model).path


def print_latencies(figures: dict[str, Any], shown: Shown) -> None:
    """Throughput, latencies, goodput: for people."""
    click.echo(table(figures, shown.percentiles, shown.metrics))
    click.echo(
        f"{figures['completed']} requests in {figures['duration']:.2f} s: "
        f"{figures['request_throughput'] or 0:.2f} requests/s, {figures['output_throughput'] or 0:.1f} output tokens/s"
    )
    if shown.slo:
        promises = ", ".join(f"{metric} <= {1000 * limit:g} ms" for metric, limit in shown.slo.items())
        click.echo(f"goodput {figures['request_goodput'] or 0:.2f} requests/s ({promises})")


@contextmanager
def progress_bar(total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
    """Rate and time left, on a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, unit=unit, leave=False, disable=None) as bar:
        yield bar.update
