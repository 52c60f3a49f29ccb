"""All stages in order, each a function from the registry to a version; what is registered already is not repeated."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lifecycle.deploy.config import SERVED
from lifecycle.errors import LifecycleError
from lifecycle.presets import Preset
from lifecycle.presets import preset as preset_named
from lifecycle.training.processes import processes
from lifecycle.world.config import WorldConfig

if TYPE_CHECKING:
    from lifecycle.registry import ModelRegistry, ModelVersion


@functools.lru_cache(maxsize=1)
def _pretraining_corpus(world: WorldConfig):
    """Told once for the tokenizer and pretraining alike: it takes seconds, also when everything is registered already."""
    from lifecycle.world.corpus import pretraining_corpus

    return pretraining_corpus(world)


@functools.lru_cache(maxsize=1)
def _conversations(world: WorldConfig):
    """Told once for fine-tuning and for what RLHF rehearses."""
    from lifecycle.world.conversations import sft_conversations

    return sft_conversations(world)


def tokenizer(config: Preset, registry: ModelRegistry, preset: str) -> ModelVersion:
    """Learn the vocabulary from the world's pretraining text."""
    from lifecycle.model import tokenizer_stage

    documents, _, data = _pretraining_corpus(config.world)
    learn = tokenizer_stage.TokenizerConfig(vocab_size=config.pretrain.model.vocab_size)
    return processes().in_turn(lambda: tokenizer_stage.run(learn, registry, documents["text"], data))


def pretrain(config: Preset, registry: ModelRegistry, preset: str) -> ModelVersion:
    """From random weights to a base model."""
    from lifecycle.pretrain import run

    documents, validation, data = _pretraining_corpus(config.world)
    words = tokenizer(config, registry, preset)
    return run(
        config.pretrain, registry, dataset=documents, validation=validation, data=data, tokenizer=words, preset=preset
    )


def sft(config: Preset, registry: ModelRegistry, preset: str, parent: str = "pretrain@latest") -> ModelVersion:
    """From a base model to one that chats."""
    from lifecycle.sft import run

    start = registry.load(parent)
    conversations, data = _conversations(config.world)
    return run(config.sft, registry, parent=start, conversations=conversations, data=data, preset=preset)


def rlhf(
    config: Preset, registry: ModelRegistry, preset: str, parent: str = "sft@latest", preferences: str = "sampled"
) -> ModelVersion:
    """From one that chats to one that does what is preferred and what can be verified.

    `preferences` says where pairs come from: "sampled" from `parent` and judged, the "world", or a .jsonl file of them.
    """
    from lifecycle.rlhf import run
    from lifecycle.rlhf.pairs import read_file
    from lifecycle.world.preferences import preference_pairs
    from lifecycle.world.tasks import verified_prompts

    start = registry.load(parent)
    given = None
    if preferences != "sampled":
        given = preference_pairs(config.world) if preferences == "world" else read_file(preferences)
    tasks, reference = verified_prompts(config.world)
    return run(
        config.rlhf,
        registry,
        parent=start,
        tasks=tasks,
        data=reference,
        given=given,
        conversations=_conversations(config.world) if config.rlhf.rehearsal_weight else None,  # thousands, told in seconds
        preset=preset,
    )


def see(config: Preset, registry: ModelRegistry, preset: str, parent: str = "rlhf@latest") -> ModelVersion:
    """From one that reads to one that also sees; what it has read is told again beside the pictures."""
    from lifecycle.see import run

    start = registry.load(parent)
    conversations, data = _conversations(config.world)
    return run(config.see, registry, parent=start, conversations=conversations, data=data, preset=preset)


def speak(config: Preset, registry: ModelRegistry, preset: str, parent: str = "rlhf@latest") -> ModelVersion:
    """From one that reads to one that also hears and speaks; some of what it has read is told again, so that it stays as it is."""
    from lifecycle.speak import run

    start = registry.load(parent)
    told = min(config.world.conversations, config.speak.conversations)
    conversations, data = _conversations(replace(config.world, conversations=told))
    return run(config.speak, registry, parent=start, conversations=conversations, data=data, preset=preset)


def feedback(config: Preset, registry: ModelRegistry, preset: str, parent: str | None = None, marks: str = "feedback") -> ModelVersion:
    """From what is served to what people liked better; deployed, and served from now on unless a skill got lost.

    `marks` is a server's file, or "feedback" for the one in the registry; `parent` is by default what the served version
    was made from. Returns the deployed version: `registry.aliases()` says whether it is the one that is served now.
    """
    from lifecycle.feedback.sqlite_file import FILE_NAME
    from lifecycle.feedback.stage import run, served_parent

    path = registry.root / FILE_NAME if marks == "feedback" else Path(marks)
    alias = config.deploy.alias
    start = registry.load(parent or served_parent(registry, alias))
    tuned = run(config.feedback, registry, parent=start, marks=path, preset=preset)
    return deploy(_stored_as_served(config, registry), registry, preset, tuned.ref)


def _stored_as_served(config: Preset, registry: ModelRegistry) -> Preset:
    """The same with the target of what is served: an int8 model is not replaced by one of twice its size."""
    alias = config.deploy.alias
    target = registry.resolve(alias).manifest.config.get("target") if alias in registry.aliases() else None
    return replace(config, deploy=replace(config.deploy, target=target)) if target in SERVED else config


def deploy(config: Preset, registry: ModelRegistry, preset: str, parent: str = "rlhf@latest") -> ModelVersion:
    """From a trained version to the one that is served."""
    from lifecycle.deploy import run
    from lifecycle.world.examples import EXAMPLES

    examples = [example.prompt for example in EXAMPLES]
    start = registry.load(parent)
    return processes().in_turn(lambda: run(config.deploy, registry, parent=start, preset=preset, examples=examples, say=click.echo))


STAGES: dict[str, Callable[..., ModelVersion]] = {
    "tokenizer": tokenizer,
    "pretrain": pretrain,
    "sft": sft,
    "rlhf": rlhf,
    "deploy": deploy,
}


AGAIN = ("pretrain", "sft", "rlhf")
"""What another seed trains: the same question asked once more, in the same world, and nothing to deploy."""


def run(config: Preset, registry: ModelRegistry, preset: str, *, stages: Sequence[str] = tuple(STAGES), lora: bool = False) -> ModelVersion:
    """These stages in order, each on the version that the one before it returned; the last one's version.

    With `lora` the base model is fine-tuned a second time, with low-rank adapters, to be compared and not gone on from.
    """
    version = None
    for name in stages:
        parent = {} if name in ("tokenizer", "pretrain") else {"parent": version.ref}
        if name == "sft" and lora:
            _told("sft (LoRA)", sft, with_lora(config), registry, preset, **parent)
        version = _told(name, STAGES[name], config, registry, preset, **parent)
    return version


def with_seed(config: Preset, seed: int) -> Preset:
    """Other initial weights, another order and other samples; the world and its tokenizer stay."""
    changed = {stage: replace(getattr(config, stage), seed=seed) for stage in ("pretrain", "sft", "rlhf")}
    return replace(config, **changed)


def with_lora(config: Preset) -> Preset:
    """Fine-tuning with low-rank adapters, merged."""
    return replace(config, sft=replace(config.sft, method="lora"))


def _told(label: str, stage: Callable[..., ModelVersion], config, registry, preset: str, **parent: str) -> ModelVersion:
    """A stage's version, and a line about it on the screen."""
    started, known = time.perf_counter(), registry.refs()
    version = stage(config, registry, preset, **parent)
    done = "registered before" if version.ref in known else f"{time.perf_counter() - started:.0f} s"
    click.echo(f"{label:>10}: {version.ref} ({done})")
    return version


@click.command("run")
@click.option("--preset", default="tiny", show_default=True, help="Size of everything: tiny, laptop, gpu or cluster.")
@click.option("--seeds", default="0", show_default=True, metavar="N[,N...]", help="Train once a seed; the first one's version is deployed.")
@click.option("--lora", is_flag=True, help="Also fine-tune with LoRA, to compare.")
def run_command(preset: str, seeds: str, lora: bool) -> None:
    """Train and deploy: tokenizer, pretrain, sft, rlhf, deploy.

    Ctrl-C is safe; the same command goes on where it stopped and skips what is registered already. At the end it says what
    each stage took, beside what was foretold.
    """
    config = preset_named(preset)
    first, *others = _seeds(seeds)

    from lifecycle.registry import ModelRegistry

    registry = ModelRegistry()
    run(with_seed(config, first), registry, preset, lora=lora)
    for seed in others:
        click.echo(f"seed {seed}")
        run(with_seed(config, seed), registry, preset, stages=AGAIN, lora=lora)
    click.echo(took(config, registry, preset), nl=False)


def took(config: Preset, registry: ModelRegistry, preset: str) -> str:
    """What each stage took, by its manifest, beside what `lifecycle plan` foretells on this machine."""
    from lifecycle.planning.commands import compared
    from lifecycle.planning.forecast import forecast
    from lifecycle.planning.probe import flops_per_second

    together = processes()
    plans = forecast(config, flops_per_second(config.pretrain) * together.count, together.count)
    return compared(plans, registry, preset)


def _seeds(words: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(word) for word in words.split(",")))
    except ValueError:
        raise LifecycleError(f'cannot read the seeds "{words}": write whole numbers, for example --seeds 0,1,2') from None
