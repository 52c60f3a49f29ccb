"""`lifecycle sft`: teach a base model to chat."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="pretrain@latest")
@click.option("--data", default="world", show_default=True, metavar="SOURCE", help='world, or a .jsonl file of {"messages": [...]}.')
def sft(preset: str, assignments: tuple[str, ...], parent: str, data: str) -> None:
    """Fine-tune on conversations (full, --set method=lora or method=adapter) and register the result.

    Ctrl-C is safe: the same command goes on where it stopped. A run that is registered already is not repeated.
    """
    config = configure(preset, "sft", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    registry = ModelRegistry()
    if data == "world":
        version = pipeline.sft(config, registry, preset, parent)
    else:
        from lifecycle.sft import run
        from lifecycle.sft.data import read

        conversations, reference = read(data)
        start = registry.load(parent)
        version = run(config.sft, registry, parent=start, conversations=conversations, data=reference, preset=preset)
    click.echo(f"{version.ref}: {version.manifest.metrics['token_accuracy']:.0%} of the assistant's tokens right, in {version.path}")
