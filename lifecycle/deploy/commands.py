"""`lifecycle deploy`: make a trained version ready to be served."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options
from lifecycle.deploy.config import TARGETS


@click.command()
@click.option("--target", metavar="NAME", help=f"What to write: {', '.join(TARGETS)}; short for --set target=NAME.")
@stage_options(parent="rlhf@latest")
def deploy(preset: str, assignments: tuple[str, ...], parent: str, target: str | None) -> None:
    """Write, verify and register what serves a version, and move "production" to it unless the report card regresses.

    bf16, fp32 and int8 are for lifecycle serve; the others are for other engines and move nothing.
    """
    config = configure(preset, "deploy", (*assignments, f"target={target}") if target else assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.deploy(config, ModelRegistry(), preset, parent)
    found = version.manifest.metrics
    click.echo(
        f"{version.ref}: {found['size_mb']:.1f} MB, {found['tokens_per_s']:.0f} tokens/s, {found['same_answers']:.1%} of {found['prompts']} answers "
        f"and {found['agreement']:.1%} of tokens as its parent's by {found['engine']}, in {version.path}"
    )
