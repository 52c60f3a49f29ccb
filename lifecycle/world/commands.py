"""`lifecycle world`: look at the text that everything is trained on."""

from __future__ import annotations

import json
import random
from typing import Any

import click

from lifecycle.world.quality import WINDOW, Quality, measure


@click.command()
@click.option("--kind", type=click.Choice(["documents", "conversations", "preferences", "tasks"]), default="documents", show_default=True)
@click.option("--count", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--sentences", default=6, show_default=True, type=click.IntRange(min=2), help="Longest story.")
@click.option("--seed", default=0, show_default=True)
@click.option("--card", is_flag=True, help="Say how varied `--count` samples are instead of printing them.")
@click.option("--freeze", is_flag=True, help="Write the frozen evaluation sets anew instead.")
def world(kind: str, count: int, sentences: int, seed: int, card: bool, freeze: bool) -> None:
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
    if card:
        click.echo(table(measure([sample if isinstance(sample, str) else spoken(sample) for sample in samples])))
        return
    for sample in samples:
        click.echo((sample if isinstance(sample, str) else json.dumps(sample, indent=1, ensure_ascii=False)) + "\n")


def spoken(sample: dict[str, Any]) -> str:
    """All that is said in a conversation, a preference pair's chosen half or a task's prompt, one turn a line."""
    messages = sample["messages"] if "messages" in sample else [*sample["prompt"], *sample["chosen"]]
    return "\n".join(message["content"] for message in messages)


def table(found: Quality) -> str:
    """A line a figure."""
    rows = {
        "samples": f"{found.documents:,}",
        "words": f"{found.words:,}",
        "distinct words": f"{found.distinct_words:,}",
        f"type-token ratio (windows of {WINDOW} words)": f"{found.type_token_ratio:.3f}",
        "templates of sentences": f"{found.templates:,}",
        "entropy of templates (bits)": f"{found.template_entropy:.2f}",
        "near-duplicates": f"{found.near_duplicates:.1%}",
    }
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows.items())
