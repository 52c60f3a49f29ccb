"""`lifecycle see`: teach a language model to see."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="rlhf@latest")
def see(preset: str, assignments: tuple[str, ...], parent: str) -> None:
    """Put a vision tower in front of a language model, train both on the visual world, and register the result.

    Ctrl-C is safe: the same command goes on where it stopped. A run that is registered already is not repeated.
    """
    config = configure(preset, "see", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.see(config, ModelRegistry(), preset, parent)
    click.echo(f"{version.ref}: {version.manifest.metrics['accuracy']:.0%} of the answers' tokens right, in {version.path}")
