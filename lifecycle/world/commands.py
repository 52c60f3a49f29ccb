"""`lifecycle world`: look at the text that everything is trained on."""

from __future__ import annotations

import json
import random

import click


@click.command()
@click.option("--kind", type=click.Choice(["documents", "conversations", "preferences", "tasks"]), default="documents", show_default=True)
@click.option("--count", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--sentences", default=6, show_default=True, type=click.IntRange(min=2), help="Longest story.")
@click.option("--seed", default=0, show_default=True)
@click.option("--freeze", is_flag=True, help="Write the frozen evaluation sets anew instead.")
def world(kind: str, count: int, sentences: int, seed: int, freeze: bool) -> None:
    """Print samples of the generated world."""
    if freeze:
        from lifecycle.evaluation import sets

        for path in sets.freeze():
            click.echo(path)
        return
    from lifecycle.world import conversations, corpus, preferences, tasks

    rng = random.Random(seed)
    if kind == "documents":
        samples = list(corpus.documents(count, sentences, rng))
    elif kind == "conversations":
        samples = list(conversations.conversations(count, sentences, rng))
    elif kind == "preferences":
        samples = list(preferences.pairs(count, sentences, rng))
    else:
        samples = [task for skill in tasks.SKILLS for task in tasks.draw_tasks(skill, count, sentences, rng, held_out=False)]
    for sample in samples:
        click.echo((sample if isinstance(sample, str) else json.dumps(sample, indent=1, ensure_ascii=False)) + "\n")
