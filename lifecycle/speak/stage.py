"""The stage: a codec learns to write speech down, then the language model learns to read and write what it writes."""

from __future__ import annotations

import random
from copy import deepcopy
from pathlib import Path

import torch
from datasets import Dataset

from lifecycle import versions
from lifecycle.costs import CostMeter
from lifecycle.errors import LifecycleError
from lifecycle.hardware import choose_device
from lifecycle.model.checkpoint import load_checkpoint, save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.directory import CODEC_DIRECTORY
from lifecycle.model.tokenizer import load_tokenizer
from lifecycle.model.widening import fitted
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.registry.transfer import content_hash, hash_files
from lifecycle.sft.data import as_documents, tokenize
from lifecycle.speak import data as speech
from lifecycle.speak.codec import CODES, blocks, lloyd, padded, voiced
from lifecycle.speak.codecs import load_codec
from lifecycle.speak.config import SpeakConfig
from lifecycle.speak.data import Writer
from lifecycle.speak.neural import NeuralCodec
from lifecycle.speak.sound import levelled, spectrogram
from lifecycle.speak.tokens import add_codes, extended
from lifecycle.training.batches import Documents
from lifecycle.training.processes import require_alone
from lifecycle.training.remembering import forgotten, remembered
from lifecycle.training.steps import Pace, Step, end, train
from lifecycle.world.speech import recorded

NAME, CODEC = "speak", "codec"
PARENTS = ("sft", "rlhf", "rlhf-dpo", "rlhf-kto")
LONGEST_TEXT = 256
"""Tokens of a conversation without sound; longer ones are cut."""
CODEC_FIELDS = ("seed", "codec_utterances", "codec_rounds")


def run(
    config: SpeakConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    conversations: Dataset,
    data: DataRef,
    preset: str | None = None,
) -> ModelVersion:
    """Teach `parent` to hear and to speak and publish "speak/N"; its codec is "codec/N", a parent of it.

    `conversations` are those that `parent` learnt from; in some of them it is held to its former words. A run that is
    registered already is returned at once; an interrupted one goes on from its last checkpoint.
    Raises LifecycleError for a parent of the wrong stage and for a loss that is not finite; KeyboardInterrupt after Ctrl-C.
    """
    versions.require_stage(parent, NAME, PARENTS)
    versions.require_whole(parent, NAME)
    require_alone(NAME)
    codec_version = codec_of(config, registry, preset)
    work = fingerprint(NAME, config, [parent, codec_version], data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, codec_version])
    meter = CostMeter()
    tokenizer = load_tokenizer(Path(parent.path))
    before = fitted(load_checkpoint(Path(parent.path)), len(tokenizer))
    longest = min(LONGEST_TEXT, before.config.context_length)
    texts = as_documents(tokenize(conversations, tokenizer), longest) if config.text else None
    codec = load_codec(Path(codec_version.path))
    first = add_codes(tokenizer, codec.codes)
    decoder = extended(before, first, codec.patterns, config.seed).train()
    writer = Writer(tokenizer, codec, first)
    progress, history = converse(decoder, before, config, writer, texts, workspace)

    def write(directory: Path) -> None:
        save_checkpoint(decoder, decoder.config, tokenizer, directory)
        writer.codec.save(directory / CODEC_DIRECTORY)
        versions.write_log(directory, history)

    version = registry.publish(
        NAME,
        write,
        parents=[parent, codec_version],
        config=config,
        preset=preset,
        data=data,
        metrics=end(history),
        seed=config.seed,
        fingerprint=work,
        seconds=progress.seconds,
        cost=meter.read(earlier=progress.cost()),
        card=f"{parent.ref}, which has learnt to hear and to speak: {codec_version.ref} turns sound into its tokens and back.",
    )
    registry.discard_workspace(NAME, work)
    return version


def codec_of(config: SpeakConfig, registry: ModelRegistry, preset: str | None = None) -> ModelVersion:
    """What turns speech into codes and back, "codec/N": one that is trained here, or a neural one of transformers."""
    return take_codec(config, registry, preset) if config.codec else train_codec(config, registry, preset)


def take_codec(config: SpeakConfig, registry: ModelRegistry, preset: str | None) -> ModelVersion:
    """A neural codec of a directory or the hub, as it is."""
    told, data = {"codec": config.codec, "codebooks": config.codebooks}, held_by(Path(config.codec))
    work = fingerprint(CODEC, told, [], data)
    if (published := registry.find(CODEC, work)) is not None:
        return published
    codec = NeuralCodec.load(config.codec, config.codebooks)
    return registry.publish(
        CODEC, codec.save, config=told, preset=preset, data=data, fingerprint=work,
        card=f"{config.codec}: {1 / codec.seconds:g} codes a second, of {codec.books} codebooks with {codec.size} entries each.",
    )


def held_by(directory: Path) -> DataRef | None:
    """The files of a directory, as they are now; None for what is none, but a name on the hub."""
    files = {path.name: path for path in directory.iterdir() if path.is_file()} if directory.is_dir() else {}
    return DataRef(f"directory:{directory.name}", content_hash(hash_files(files))) if files else None


def train_codec(config: SpeakConfig, registry: ModelRegistry, preset: str | None = None) -> ModelVersion:
    """Patterns that are found in recordings, and read aloud in one voice; it takes seconds, and begins anew when interrupted."""
    told = {name: getattr(config, name) for name in CODEC_FIELDS}
    work = fingerprint(CODEC, told, [], recorded())
    if (published := registry.find(CODEC, work)) is not None:
        return published
    meter = CostMeter()
    sounds = speech.utterances(speech.draw(config, CODEC, 0), config.codec_utterances)
    mels = (spectrogram(padded([levelled(sound)])) for sound in sounds)
    x = torch.cat([blocks(mel)[0] for mel in mels])
    rounds = list(lloyd(x, CODES, config.codec_rounds, config.seed))
    history = [{"phase": CODEC, "step": step + 1, "distance": distance} for step, (_, distance) in enumerate(rounds)]
    codec = voiced(rounds[-1][0], map(spectrogram, speech.answers().values()))

    def write(directory: Path) -> None:
        codec.save(directory)
        versions.write_log(directory, history)

    return registry.publish(
        CODEC,
        write,
        config=told,
        preset=preset,
        data=recorded(),
        metrics={"distance": history[-1]["distance"], "blocks": len(x)},
        seed=config.seed,
        fingerprint=work,
        seconds=meter.seconds,
        cost=meter.read(),
        card=f"A codec for speech: 25 codes a second, each the number of one of {CODES} patterns of four mel frames; it reads them aloud in one voice.",
    )


def converse(decoder: Decoder, before: Decoder, config: SpeakConfig, writer: Writer, texts: Documents | None, workspace: Path):
    """Learn to hear and to answer, in place; how much work it was, and the log."""
    device = choose_device("auto")
    before = deepcopy(before).requires_grad_(False).to(device)

    def step_of(step: int) -> Step:
        said = writer.batch(config, step)
        if (longest := int(said.lengths.max())) > decoder.config.context_length:
            raise LifecycleError(
                f"a turn of {longest} tokens does not fit the model's context of {decoder.config.context_length}: take a codec with fewer "
                "codes a second, or fewer codebooks of it (--set codebooks=1)"
            )
        nats, right = decoder.score(said.tokens.to(device), said.targets.to(device), said.lengths)
        wanted = len(said.tokens) * config.text / (1 - config.text)
        told = remembered(texts, wanted, random.Random(f"speak {config.seed} {step}"))
        loss = nats / said.count
        return Step(loss if told is None else loss + config.former * forgotten(decoder, before, told), right.item() / said.count, len(said.tokens))

    steps = -(-config.utterances // config.batch)
    return train(NAME, decoder, steps, config.batch, step_of, _pace(config), workspace, unit="utt")


def _pace(config: SpeakConfig) -> Pace:
    return Pace(config.lr, config.matrix_lr, config.warmup, config.dtype, config.save_every)
