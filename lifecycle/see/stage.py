"""The stage: a tower learns what is where, a projection is aligned, then the language model learns to answer about what it is shown."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from lifecycle import versions
from lifecycle.costs import CostMeter
from lifecycle.hardware import choose_device
from lifecycle.model.checkpoint import load_checkpoint
from lifecycle.model.decoder import IGNORE, Decoder
from lifecycle.model.widening import fitted
from lifecycle.registry import DataRef, ModelRegistry, ModelVersion, fingerprint
from lifecycle.see import data
from lifecycle.see.assembly import Seer, acquainted, language_model, save, tokenizer_of
from lifecycle.see.beginning import projection
from lifecycle.see.config import SeeConfig
from lifecycle.see.contrastive import NEVER, TwoTowers, words_of
from lifecycle.see.data import LONGEST_TEXT, Looked, Writer
from lifecycle.see.vision import VisionTower, merge, pixels, vision_config
from lifecycle.sft.data import as_documents, tokenize
from lifecycle.training.batches import Documents
from lifecycle.training.processes import require_alone
from lifecycle.training.remembering import forgotten
from lifecycle.training.steps import Pace, Step, end, train
from lifecycle.world.sights.provenance import code_hash

NAME, ENCODER = "see", "encoder"
FITTED, FADING = 4000, 0.5
"""Pictures from which the projection starts, and how loud a token of a word is beside the one before."""
WORDS = "words.safetensors"
"""Of an encoder: the words it learnt with, what turns a part of a picture into their space, and what patches are asked."""
PARENTS = ("sft", "rlhf", "rlhf-dpo", "rlhf-kto")
ENCODER_FIELDS = ("seed", "num_layers", "hidden_size", "num_heads", "contrastive_pictures", "contrastive_batch", "contrastive_lr",
                   "contrastive_matrix_lr", "warmup", "dtype")  # fmt: skip


def run(
    config: SeeConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    conversations: Dataset,
    data: DataRef,
    preset: str | None = None,
) -> ModelVersion:
    """Teach `parent` to see and publish "see/N"; its tower is "encoder/N", a parent of it.

    `conversations` are those that `parent` learnt from; some are mixed in. A run that is registered already is returned at
    once; an interrupted one goes on from its last checkpoint.
    Raises LifecycleError for a parent of the wrong stage and for a loss that is not finite; KeyboardInterrupt after Ctrl-C.
    """
    versions.require_stage(parent, NAME, PARENTS)
    versions.require_whole(parent, NAME)
    require_alone(NAME)
    encoder = train_encoder(config, registry, parent, preset)
    work = fingerprint(NAME, {**asdict(config), "drawn by": code_hash()}, [parent, encoder], data)
    if (published := registry.find(NAME, work)) is not None:
        return published
    workspace = registry.workspace(NAME, work, [parent, encoder])
    meter = CostMeter()
    known = tokenizer_of(Path(parent.path))
    before = fitted(load_checkpoint(Path(parent.path)), len(known))
    decoder, tokenizer = acquainted(before, known)
    longest = min(LONGEST_TEXT, decoder.config.context_length)
    texts = as_documents(tokenize(conversations, known), longest) if config.text else None
    seer = Seer(_tower(encoder, config), decoder, config)
    begin(seer, config, tokenizer)
    history, cost = teach(seer, before, config, Writer(tokenizer), texts, workspace)

    def write(directory: Path) -> None:
        save(seer, config, tokenizer, directory)
        versions.write_log(directory, history)

    version = registry.publish(
        NAME,
        write,
        parents=[parent, encoder],
        config=config,
        preset=preset,
        data=data,
        metrics=end(history),
        seed=config.seed,
        fingerprint=work,
        seconds=cost["wall_seconds"],
        cost=meter.read(earlier=cost),
        card=f"{parent.ref} with {encoder.ref} in front of it: it answers questions about pictures and clips.",
    )
    registry.discard_workspace(NAME, work)
    return version


def train_encoder(config: SeeConfig, registry: ModelRegistry, parent: ModelVersion, preset: str | None = None) -> ModelVersion:
    """The vision tower that tells what is where, "encoder/N"; `parent` gives the words to begin with."""
    told = {name: getattr(config, name) for name in ENCODER_FIELDS}
    work = fingerprint(ENCODER, {**told, "drawn by": code_hash()}, [parent], None)
    if (published := registry.find(ENCODER, work)) is not None:
        return published
    workspace = registry.workspace(ENCODER, work, [parent])
    meter = CostMeter()
    decoder, tokenizer = language_model(Path(parent.path))
    words = words_of(decoder.model.embed_tokens.weight, partial(tokenizer.encode, add_special_tokens=False))
    towers = TwoTowers(config, words)
    history, cost = contrast(towers, config, workspace)

    def write(directory: Path) -> None:
        vision_config(config).save_pretrained(directory)
        save_file(_plain(towers.vision), directory / "model.safetensors", metadata={"format": "pt"})
        rest = {name: weight for name, weight in _plain(towers).items() if not name.startswith("vision.")}
        save_file(rest, directory / WORDS, metadata={"format": "pt"})
        tokenizer.save_pretrained(directory)
        versions.write_log(directory, history)

    version = registry.publish(
        ENCODER,
        write,
        parents=[parent],
        config=told,
        preset=preset,
        metrics=end(history),
        seed=config.seed,
        fingerprint=work,
        seconds=cost["wall_seconds"],
        cost=meter.read(earlier=cost),
        card="A vision tower (transformers' Idefics3VisionTransformer) that has learnt which words are true of which part of a picture, "
        "and the words that it learnt with.",
    )
    registry.discard_workspace(ENCODER, work)
    return version


def contrast(towers: TwoTowers, config: SeeConfig, workspace: Path) -> tuple[list, dict[str, Any]]:
    """Phase one: which word is true of which part of a picture. The log and what it cost."""
    device = choose_device("auto")

    def step_of(step: int) -> Step:
        shown = data.grounded(config, step)
        loss, accuracy = towers.loss(pixels(shown.pictures.to(device)), shown.parts.to(device), shown.patches.to(device))
        return Step(loss, accuracy, shown.parts[..., 0].numel())

    steps = -(-config.contrastive_pictures // config.contrastive_batch)
    pace = replace(_pace(config), lr=config.contrastive_lr, matrix_lr=config.contrastive_matrix_lr, prefix="contrastive_")
    progress, history = train("contrast", towers, steps, config.contrastive_batch, step_of, pace, workspace)
    return history, _cost(progress)


def begin(seer: Seer, config: SeeConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Start the projection: a part is to read like the words that are true of it, the first token of each the loudest."""
    embeddings = seer.decoder.model.embed_tokens.weight.detach()
    words = words_of(embeddings, partial(tokenizer.encode, add_special_tokens=False), FADING)
    states, parts = [], []
    for step in range(min(FITTED, config.contrastive_pictures) // config.contrastive_batch + 1):
        shown = data.grounded(config, step)
        with torch.no_grad():
            states.append(merge(seer.tower(pixels(shown.pictures))).flatten(0, 1))
        parts.append(shown.parts.flatten(0, 1))
    found = projection(torch.cat(states), torch.cat(parts), words, embeddings, config.seed)
    seer.connector.proj.weight.data.copy_(found)


def teach(
    seer: Seer, before: Decoder, config: SeeConfig, writer: Writer, texts: Documents | None, workspace: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Phases two and three, in place: captions through the projection alone, then questions through it and the language model.

    The tower stays as it was, and in `texts` the language model what it was `before`, when it did not know the words of pictures:
    in a story it does not say them. The log and what it cost.
    """
    seer.requires_grad_(False)
    seer.connector.requires_grad_(True)
    steps = -(-config.align_pictures // config.batch)
    align, history = train("align", seer, steps, config.batch, lambda n: answer(seer, data.captioned(config, writer, n)), _pace(config), workspace / "align")
    seer.decoder.requires_grad_(True)
    before = before.to(seer.connector.proj.weight.device)

    def step_of(step: int) -> Step:
        looked, told = data.asked(config, writer, texts, step)
        found = answer(seer, looked)
        return found if told is None else replace(found, loss=found.loss + config.held * forgotten(seer.decoder, before, told))

    steps = -(-config.pictures // config.batch)
    tune, later = train("tune", seer, steps, config.batch, step_of, _pace(config), workspace / "tune")
    first, second = _cost(align), _cost(tune)
    return history + later, {name: round(first[name] + second[name], 3) for name in first}


def answer(seer: Seer, looked: Looked) -> Step:
    """How likely the answers are, given what is shown: the mean over their tokens, without what is not counted as wrong."""
    device = seer.connector.proj.weight.device
    seen = seer.look(pixels(looked.pictures.to(device)))[looked.shown.to(device)].flatten(0, 1)  # [M, hidden_size]
    hidden = seer.decoder.model.flat(looked.tokens.to(device), looked.lengths, (looked.places.to(device), seen))
    counted = (looked.targets != IGNORE).nonzero()[:, 0]  # [n]
    logits = seer.decoder.lm_head(hidden[counted.to(device)]).float()
    lines, words = torch.searchsorted(counted, looked.untold[:, 0].contiguous()), looked.untold[:, 1]
    logits = logits.index_put((lines.to(device), words.to(device)), logits.new_tensor(NEVER))
    targets = looked.targets[counted].to(device)
    right = (logits.argmax(-1) == targets).float().mean()
    return Step(F.cross_entropy(logits, targets), right.item(), len(looked.tokens))


def _pace(config: SeeConfig) -> Pace:
    return Pace(config.lr, config.matrix_lr, config.warmup, config.dtype, config.save_every, config.decoder_pace)


def _tower(encoder: ModelVersion, config: SeeConfig) -> VisionTower:
    tower = VisionTower(config)
    tower.load_state_dict(load_file(Path(encoder.path) / "model.safetensors"))
    return tower


def _plain(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().cpu().contiguous() for name, weight in module.state_dict().items()}


def _cost(progress) -> dict[str, Any]:
    return {name: value for name, value in progress.cost().items() if name != "flops"}
