"""`lifecycle pretrain`: train a base model from random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lifecycle.config import choose, parse_assignments
from lifecycle.errors import LifecycleError
from lifecycle.pretrain.config import PRESETS, PretrainConfig, configure

if TYPE_CHECKING:
    from lifecycle.pretrain.sources import Corpus

CHARACTERS_PER_TOKEN = 5
"""A little more than a tokenizer packs into a token, to stream enough text for the budget."""


@click.command()
@click.option("--preset", default="tiny", show_default=True, help=f"Size of model and run: {', '.join(PRESETS)}.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting, for example lr=1e-3 or model.num_layers=6.",
)
@click.option(
    "--data",
    default="world",
    show_default=True,
    metavar="SOURCE",
    help="world, a .txt file or directory, or hf:NAME[:SUBSET].",
)
@click.option(
    "--mix",
    metavar="PERCENT:SOURCE",
    help="Mix real text in, for example 20:books/ or 20:hf:NAME: so many percent of all characters.",
)
@click.option("--tokenizer", metavar="REF", help="Use this tokenizer version; by default one is trained on the data.")
def pretrain(preset: str, assignments: tuple[str, ...], data: str, mix: str | None, tokenizer: str | None) -> None:
    """Train a base model from random weights and register it.

    Ctrl-C is safe: the same command goes on where it stopped. A run that is registered already is not repeated.
    """
    config = configure(preset, parse_assignments(assignments))

    from lifecycle.model import tokenizer_stage
    from lifecycle.pretrain import run
    from lifecycle.registry import ModelRegistry
    from lifecycle.training.processes import processes

    registry = ModelRegistry()
    documents, validation, reference = mixture(data, mix, preset, config) if mix else corpus(data, preset, config)
    if tokenizer:
        words = registry.load(tokenizer)
    else:
        learn = tokenizer_stage.TokenizerConfig(vocab_size=config.model.vocab_size)
        words = processes().in_turn(lambda: tokenizer_stage.run(learn, registry, documents["text"], reference))
    version = run(
        config, registry, dataset=documents, validation=validation, data=reference, tokenizer=words, preset=preset
    )
    metrics = version.manifest.metrics
    score = f"{metrics['bits_per_byte']:.3f} bits per byte"
    click.echo(f"{version.ref}: {score} after {metrics['tokens']:,} tokens, in {version.path}")


def mixture(source: str, mix: str, preset: str, config: PretrainConfig) -> Corpus:
    """A source with another one mixed in, "PERCENT:SOURCE". Raises LifecycleError for one that cannot be read so."""
    from lifecycle.pretrain.sources import mixed

    percent, _, added = mix.partition(":")
    try:
        share = float(percent)
    except ValueError:
        share = 0.0
    if not added or not 0 < share < 100:
        raise LifecycleError(f'cannot read the mixture "{mix}": write PERCENT:SOURCE, for example --mix 20:books/')
    return mixed(corpus(source, preset, config), corpus(added, preset, config), share)


def corpus(source: str, preset: str, config: PretrainConfig) -> Corpus:
    """Documents of "world", "hf:NAME[:SUBSET]" or a path."""
    if source == "world":
        from lifecycle.world.config import PRESETS as WORLDS
        from lifecycle.world.corpus import pretraining_corpus

        return pretraining_corpus(choose("preset", preset, WORLDS))

    from lifecycle.pretrain import sources

    if source.startswith("hf:"):
        name, _, subset = source.removeprefix("hf:").partition(":")
        return sources.hub(name, subset or None, characters=CHARACTERS_PER_TOKEN * config.tokens)
    return sources.text_files(source)
