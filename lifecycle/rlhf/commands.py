"""`lifecycle rlhf`: learn from preferences and verifiers."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="sft@latest")
@click.option(
    "--data",
    default="sampled",
    show_default=True,
    metavar="SOURCE",
    help='sampled (answers of the parent, judged), world, or a .jsonl file of {"prompt", "chosen", "rejected"}.',
)
def rlhf(preset: str, assignments: tuple[str, ...], parent: str, data: str) -> None:
    """Take preference pairs, train a reward model on them, then DPO, then GRPO, and register all four.

    Ctrl-C is safe: the same command goes on where it stopped. What is registered already is not repeated.
    """
    config = configure(preset, "rlhf", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    version = pipeline.rlhf(config, ModelRegistry(), preset, parent, data)
    click.echo(f"{version.ref} in {version.path}")
