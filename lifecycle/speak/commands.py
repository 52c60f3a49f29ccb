"""`lifecycle speak`: teach a language model to hear and to speak."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="rlhf@latest")
def speak(preset: str, assignments: tuple[str, ...], parent: str) -> None:
    """Train a codec for speech, teach a language model to read and write its tokens, and register both.

    Ctrl-C is safe: the same command goes on where it stopped. A run that is registered already is not repeated.
    """
    config = configure(preset, "speak", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.speak(config, ModelRegistry(), preset, parent)
    click.echo(f"{version.ref}: {version.manifest.metrics['accuracy']:.0%} of the answers' tokens right, in {version.path}")
