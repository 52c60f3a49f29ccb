"""`lifecycle rlhf`: learn from preferences and verifiers."""

from __future__ import annotations

import click

from lifecycle.commands import configure, stage_options


@click.command()
@stage_options(parent="sft@latest")
@click.option(
    "--preferences",
    default="sampled",
    show_default=True,
    metavar="SOURCE",
    help='sampled (answers of the parent, judged), world, feedback (what people marked in the served chat; or a server\'s '
    'FILE.sqlite), or FILE.jsonl of {"prompt", "chosen", "rejected"}.',
)
@click.pass_context
def rlhf(ctx: click.Context, preset: str, assignments: tuple[str, ...], parent: str, preferences: str) -> None:
    """Take preference pairs, train a reward model on them, then DPO, then GRPO, and register all four.

    With --preferences feedback: a short round of DPO on what people preferred and of KTO on single thumbs, from the
    version behind the one that is served; the result is deployed, and replaces it unless the report card got worse.

    Ctrl-C is safe: the same command goes on where it stopped. What is registered already is not repeated.
    """
    of_people = preferences == "feedback" or preferences.endswith(".sqlite")
    config = configure(preset, "feedback" if of_people else "rlhf", assignments)

    from lifecycle import pipeline
    from lifecycle.registry import ModelRegistry

    if of_people:
        given = ctx.get_parameter_source("parent") is not click.core.ParameterSource.DEFAULT
        version = pipeline.feedback(config, ModelRegistry(), preset, parent if given else None, preferences)
    else:
        version = pipeline.rlhf(config, ModelRegistry(), preset, parent, preferences)
    click.echo(f"{version.ref} in {version.path}")
