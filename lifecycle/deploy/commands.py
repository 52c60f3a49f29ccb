"""`lifecycle deploy`: make a trained version ready to be served; `lifecycle deploy plan`: what a machine will serve of it."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options
from lifecycle.config import choose
from lifecycle.deploy.config import TARGETS
from lifecycle.errors import LifecycleError


@click.group(invoke_without_command=True)
@click.option("--target", metavar="NAME", help=f"What to write: {', '.join(TARGETS)}; short for --set target=NAME.")
@stage_options(parent="rlhf@latest")
@click.pass_context
def deploy(ctx: click.Context, preset: str, assignments: tuple[str, ...], parent: str, target: str | None) -> None:
    """Write, verify and register what serves a version, and move "production" to it unless the report card regresses.

    bf16, fp32 and int8 are for lifecycle serve; the others are for other engines and move nothing.
    """
    if ctx.invoked_subcommand is not None:
        return
    config = configure(preset, "deploy", (*assignments, f"target={target}") if target else assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.deploy(config, ModelRegistry(), preset, parent)
    found = version.manifest.metrics
    click.echo(
        f"{version.ref}: {found['size_mb']:.1f} MB, {found['tokens_per_s']:.0f} tokens/s, {found['same_answers']:.1%} of {found['prompts']} answers "
        f"and {found['agreement']:.1%} of tokens as its parent's by {found['engine']}, in {version.path}"
    )


@deploy.command("plan")
@click.argument("ref", default="rlhf@latest")
@click.option("--target", default="bf16", show_default=True, metavar="NAME", help="As for deploy.")
@click.option("--machine", default="here", show_default=True, help="here (two seconds are measured), h100, a100 or l4.")
@click.option("--memory", type=click.FloatRange(min=0, min_open=True), help="GB of it, of another machine.")
@click.option("--bandwidth", type=click.FloatRange(min=0, min_open=True), help="GB that it reads in a second.")
@click.option("--tflops", type=click.FloatRange(min=0, min_open=True), help="Of dense bfloat16.")
@click.option("--reached", type=click.FloatRange(0, 1, min_open=True), default=0.65, show_default=True, help="Share of the limit that the engine gets to.")
@click.option("--step-time", help="Measured instead, as lifecycle simulate --fit prints it.")
@click.option("--prompt", type=click.IntRange(min=1), default=512, show_default=True, help="Tokens of a request.")
@click.option("--answer", type=click.IntRange(min=1), default=128, show_default=True, help="Tokens of an answer.")
@click.option("--pace", type=click.FloatRange(min=0, min_open=True), default=10.0, show_default=True, help="Tokens a second that a reader wants at least.")
@click.option("--pause", type=click.FloatRange(min=0), default=30.0, show_default=True, help="Seconds between an answer and the next request.")
def plan(
    ref: str, target: str, machine: str, memory: float | None, bandwidth: float | None, tflops: float | None, reached: float,
    step_time: str | None, prompt: int, answer: int, pace: float, pause: float,
) -> None:  # fmt: skip
    """Memory, tokens per second and people at once that a machine will serve of a version, with the assumptions.

    Nothing is loaded and nothing is registered. The limit of a machine is what it reads and multiplies in a second; a step time
    that was measured replaces it.
    """
    from lifecycle import adapters
    from lifecycle.model.directory import is_adapter, load_config
    from lifecycle.planning import serving
    from lifecycle.planning.hosts import described
    from lifecycle.planning.report import report
    from lifecycle.planning.steptime import StepTimeModel
    from lifecycle.registry import ModelRegistry

    choose("target", target, serving.BITS)
    registry = ModelRegistry()
    version = registry.resolve(ref)
    if registry.remote:
        version = registry.load(ref)
    if is_adapter(version.path):
        version = adapters.base_of(version)
    if not (version.path / "config.json").is_file():
        raise LifecycleError(f"{version.ref} is no checkpoint of a model, so nothing can be said of serving it: name one, for example rlhf@latest")
    config = load_config(version.path)
    config = getattr(config, "text_config", config)
    host = described(machine, memory, bandwidth, tflops, serving.Footprint.of(config, target).weights)
    step = StepTimeModel.parse(step_time) if step_time else serving.Roofline(config, target, host.machine, reached, answer)
    traffic = serving.Traffic(prompt, answer, pace, pause)
    click.echo(report(f"{ref} as {target}", config, target, host, step, traffic), nl=False)
