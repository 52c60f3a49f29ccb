"""`lifecycle rlhf`: learn from preferences and verifiers."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="sft@latest")
def rlhf(preset: str, assignments: tuple[str, ...], parent: str) -> None:
    """Sample and judge answers, train a reward model on the pairs, then DPO, then GRPO, and register all four.

    Ctrl-C is safe: the same command goes on where it stopped. What is registered already is not repeated.
    """
    config = configure(preset, "rlhf", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.rlhf(config, ModelRegistry(), preset, parent)
    click.echo(f"{version.ref} in {version.path}")
