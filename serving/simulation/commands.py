"""`lifecycle simulate`: try policies, sizes and numbers of replicas on a workload without running a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lifecycle.config import override, parse_assignments
from lifecycle.errors import LifecycleError
from serving.bench.commands import progress_bar
from serving.bench.options import (
    FILE,
    LENGTH,
    Shown,
    Workload,
    metric_options,
    read_recording,
    traffic_options,
    workload_options,
)
from serving.bench.report import emit
from serving.bench.workload import Traffic

ROUTERS = ("round-robin", "least-loaded", "power-of-two", "prefix-affinity")
NUM_BLOCKS = 2048
NO_QUEUE_LIMIT = 2**31


@click.command()
@click.option("--policy", "policies", multiple=True, help="Batching policy; may be repeated. All of them by default.")
@click.option("--fit", "fit_file", type=FILE, help="Learn step times and the engine's sizes from this recording.")
@click.option("--replicas", type=LENGTH, default=1, show_default=True, help="Engines behind one router.")
@click.option("--router", type=click.Choice(ROUTERS), default="least-loaded", show_default=True)
@click.option(
    "--tenants", default="1", show_default=True, help="Shares of the traffic: 10,1 is a loud and a quiet one."
)
@click.option("--priorities", type=LENGTH, default=1, help="Requests draw one of so many.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any knob of the scheduler.")
@click.option("--json", "json_file", type=FILE, help="Also write the figures here.")
@workload_options
@traffic_options
@metric_options
def simulate(
    policies: tuple[str, ...],
    fit_file: Path | None,
    replicas: int,
    router: str,
    tenants: str,
    priorities: int,
    assignments: tuple[str, ...],
    json_file: Path | None,
    request_rate: float | None,
    burstiness: float,
    goodput: tuple[str, ...],
    percentile_metrics: str,
    metric_percentiles: str,
    **workload: Any,
) -> None:
    """Run a workload through the real scheduler and policies on a simulated clock, and compare policies.

    A step takes base + per token + per KV position read + per sequence; --fit measures the four on a recording.
    """
    from serving.domain.policies import policy_names
    from serving.simulation.cluster import simulate as run

    shown = Shown.read(goodput, percentile_metrics, metric_percentiles)
    plan = Workload(**workload)
    traffic = _traffic(request_rate, burstiness, tenants, priorities)
    config, step_time = _engine(fit_file, parse_assignments(assignments))
    rows = []
    for policy in policies or policy_names():
        jobs = plan.jobs(traffic, default_count=1000)
        chosen = override(config, {"policy": policy})
        with progress_bar(
            plan.num_prompts or (1000 if plan.dataset_name != "recorded" else None), "request"
        ) as advance:
            outcome = run(jobs, chosen, step_time, replicas=replicas, router=router, slo=shown.slo, progress=advance)
        rows.append(outcome.figures(shown.percentiles, shown.metrics))
    click.echo(comparison(rows, shown))
    requests = sum(row["completed"] for row in rows)
    seconds = sum(row["wall_seconds"] for row in rows)
    click.echo(f"simulated {requests} requests in {seconds:.1f} s: {requests / seconds:.0f} requests/s")
    emit({"benchmark": "simulate", "replicas": replicas, "router": router, "results": rows}, json_file)


def comparison(rows: list[dict[str, Any]], shown: Shown) -> str:
    """One line per policy; latencies in milliseconds."""
    keys = {f"{metric.upper()} p{p:g}": f"p{p:g}_{metric}_ms" for metric in shown.metrics for p in shown.percentiles}
    keys["tok/s"] = "output_throughput"
    if shown.slo:
        keys["goodput"] = "request_goodput"
    keys["Jain"] = "fairness"
    width = max(len(row["policy"]) for row in rows)
    lines = [" " * width + "".join(f"{key:>10}" for key in keys)]
    for row in rows:
        cells = (row[key] for key in keys.values())
        lines.append(f"{row['policy']:<{width}}" + "".join(f"{_short(cell):>10}" for cell in cells))
    return "\n".join(lines)


def _short(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _traffic(request_rate: float | None, burstiness: float, tenants: str, priorities: int) -> Traffic | None:
    """None when nothing was said that a recording would have to give way to."""
    try:
        shares = tuple(float(word) for word in tenants.split(","))
    except ValueError:
        shares = ()
    if not shares or min(shares) <= 0:
        raise LifecycleError(f'cannot read the shares "{tenants}" of --tenants: write for example 10,1')
    if request_rate is None and len(shares) == 1 and priorities == 1:
        return None
    rate = {} if request_rate is None else {"rate": request_rate}
    return Traffic(**rate, burstiness=burstiness, tenants=shares, priorities=priorities)


def _engine(fit_file: Path | None, assignments: dict[str, str]):
    """The scheduler's configuration and the step times: those of a recording, or plausible ones."""
    from serving.infrastructure.config import ServingConfig
    from serving.simulation.steptime import StepTimeModel, fit

    config = replace(ServingConfig(), num_blocks=NUM_BLOCKS, queue_limit=NO_QUEUE_LIMIT)
    step_time = StepTimeModel()
    if fit_file is not None:
        recording = read_recording(fit_file)
        found = fit(recording)
        step_time = found.model
        known = {key: value for key, value in recording.header["scheduler"].items() if hasattr(config, key)}
        config = replace(config, **{**known, "queue_limit": NO_QUEUE_LIMIT})
        click.echo(f"step time: {step_time} ({found.steps} steps, typical error {found.median_error:.1%})", err=True)
    return override(config, assignments), step_time
