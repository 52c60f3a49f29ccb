"""`lifecycle plan`: what a preset will take on this machine, beside what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lifecycle.presets import preset as preset_named

if TYPE_CHECKING:
    from lifecycle.planning.forecast import StagePlan
    from lifecycle.registry import ModelRegistry


@click.command()
@click.option("--preset", default="tiny", show_default=True, help="Size of everything: tiny, laptop, gpu or cluster.")
@click.option("--flops", type=click.FloatRange(min=1), help="Floating-point operations of training in a second, of a machine that is not this one.")
@click.option("--processes", type=click.IntRange(min=1), default=1, show_default=True, help="That share out each step, see docs/cluster.md; memory is one's.")
@click.option("--price", type=click.FloatRange(min=0), help="Of an hour of that machine, in any currency.")
def plan(preset: str, flops: float | None, processes: int, price: float | None) -> None:
    """Parameters, tokens, time and memory of every stage, from a two-second probe; and what a finished run has measured.

    Nothing is trained and nothing is registered.
    """
    config = preset_named(preset)

    from lifecycle.planning.forecast import forecast
    from lifecycle.planning.probe import flops_per_second
    from lifecycle.registry import ModelRegistry

    rate = flops or flops_per_second(config.pretrain)
    plans = forecast(config, rate, processes)
    hours = sum(one.seconds for one in plans) / 3600
    click.echo(f"{config.pretrain.model.num_parameters:,} parameters; {rate:.2g} floating-point operations of training in a second")
    click.echo(compared(plans, ModelRegistry(), preset), nl=False)
    click.echo(f"predicted in all: {duration(3600 * hours)}" + (f", {hours * price:,.2f} to pay" if price is not None else ""))


def compared(plans: Sequence[StagePlan], registry: ModelRegistry, preset: str) -> str:
    """The table of a forecast and of what the preset's newest versions in a registry took."""
    from lifecycle.planning.forecast import measured

    return table(plans, measured((version for name in registry.names() for version in registry.versions(name)), preset))


def table(plans: Sequence[StagePlan], done: Mapping[str, Mapping[str, Any]]) -> str:
    """In Markdown: one line a stage, predicted beside measured."""
    lines = [
        "| stage | tokens | measured | time | measured | memory | measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in plans:
        cost = done.get(one.stage, {})
        tokens = f"{cost['tokens']:,}" if "tokens" in cost else ""
        time = duration(cost["wall_seconds"]) if cost.get("wall_seconds") is not None else ""
        peak = cost.get("peak_gpu_bytes", cost.get("peak_memory_bytes"))
        memory = size(peak) if peak is not None else ""
        predicted = (f"{one.tokens:,}", duration(one.seconds), size(one.memory_bytes))
        cells = [cell for pair in zip(predicted, (tokens, time, memory), strict=True) for cell in pair]
        lines.append(f"| {one.stage} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """In the unit that a person would choose."""
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:,.0f} days"


def size(count: float) -> str:
    """Bytes in the unit that a person would choose."""
    return f"{count / 2**20:,.0f} MiB" if count < 2**30 else f"{count / 2**30:,.1f} GiB"
