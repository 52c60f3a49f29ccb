"""`lifecycle world`: look at the text that everything is trained on, and at pictures and clips."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import click

from lifecycle.errors import LifecycleError
from lifecycle.world.quality import WINDOW, Quality, measure

SEEN = ("pictures", "clips")


@click.command()
@click.option("--kind", type=click.Choice(["documents", "conversations", "preferences", "tasks", "pictures", "clips"]), default="documents", show_default=True)
@click.option("--count", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--sentences", default=6, show_default=True, type=click.IntRange(min=2), help="Longest story.")
@click.option("--seed", default=0, show_default=True)
@click.option("--split", default="train", show_default=True, help="Of pictures and clips: train, test, unseen or other_style.")
@click.option("--to", type=click.Path(file_okay=False, path_type=Path), help="The directory that pictures or clips are written to.")
@click.option("--card", is_flag=True, help="Say how varied `--count` samples are instead of printing them.")
@click.option("--freeze", is_flag=True, help="Write the frozen evaluation sets anew instead: of text, or with --kind pictures those to look at.")
def world(kind: str, count: int, sentences: int, seed: int, split: str, to: Path | None, card: bool, freeze: bool) -> None:
    """Print samples of the generated world, or write pictures or clips with what is asked about them."""
    if freeze:
        from lifecycle.evaluation import sets, sights

        for path in sights.freeze() if kind in SEEN else sets.freeze():
            click.echo(path)
        return
    if kind in SEEN:
        if card:
            raise LifecycleError("--card measures text: leave it out, or choose --kind documents or conversations")
        _show(kind, count, seed, split, to)
        return
    from lifecycle.world import conversations, corpus, preferences, tasks
    from lifecycle.world.config import WorldConfig

    rng = random.Random(seed)
    if kind == "documents":
        samples = [one.text for one in corpus.documents(WorldConfig(documents=count, max_sentences=sentences), rng)]
    elif kind == "conversations":
        samples = list(conversations.conversations(WorldConfig(conversations=count, max_sentences=sentences), rng))
    elif kind == "preferences":
        samples = list(preferences.pairs(count, sentences, rng))
    else:
        samples = [task for skill in tasks.SKILLS for task in tasks.draw_tasks(skill, count, sentences, rng, held_out=False)]
    if card:
        click.echo(table(measure([sample if isinstance(sample, str) else spoken(sample) for sample in samples])))
        return
    for sample in samples:
        click.echo((sample if isinstance(sample, str) else json.dumps(sample, indent=1, ensure_ascii=False)) + "\n")


def _show(kind: str, count: int, seed: int, split: str, to: Path | None) -> None:
    from lifecycle.world.sights import clips, scenes
    from lifecycle.world.sights.sheet import write_samples

    if to is None:
        raise LifecycleError(f"{kind} are written to files: say where with --to DIRECTORY")
    stream = scenes(seed, split) if kind == "pictures" else clips(seed, split)
    for path in write_samples(list(itertools.islice(stream, count)), to):
        click.echo(path)


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
