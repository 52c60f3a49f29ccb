"""`lifecycle deploy`: make a trained version ready to be served."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="rlhf@latest")
def deploy(preset: str, assignments: tuple[str, ...], parent: str) -> None:
    """Cast, verify and register a version, and move "production" to it unless the report card regresses."""
    config = configure(preset, "deploy", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.deploy(config, ModelRegistry(), preset, parent)
    click.echo(f"{version.ref}: {version.manifest.metrics['agreement']:.1%} of tokens as its parent's, in {version.path}")
