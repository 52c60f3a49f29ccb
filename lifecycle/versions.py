"""Versions as those who train see them: opened, with what a stage demands of its parent; written, with their log; adapters merged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from lifecycle import adapters
from lifecycle.errors import LifecycleError
from lifecycle.model.directory import is_adapter, is_int8
from lifecycle.registry import ModelVersion
from lifecycle.registry.staging import staging
from lifecycle.training.processes import processes

LOG = "training_log.jsonl"
END_OF_TURN = "<|im_end|>"


def load(version: ModelVersion) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A version's model, in fp32 and in training mode, and its tokenizer, for which a turn's end is the end."""
    return load_model(version), load_tokenizer(version)


def load_model(version: ModelVersion) -> PreTrainedModel:
    """A version's model, in fp32 and in training mode; an adapter on its base, of which the adapter alone is trained."""
    if is_adapter(version.path):
        return adapters.put_on(load_model(adapters.base_of(version)), version)
    require_floats(version)
    return AutoModelForCausalLM.from_pretrained(version.path, dtype=torch.float32, local_files_only=True).train()


def references(version: ModelVersion) -> list[PreTrainedModel]:
    """What a policy that starts from a version is held to: the version itself. None for an adapter, beside which TRL keeps a copy of it."""
    return [] if is_adapter(version.path) else [load_model(version)]


def load_tokenizer(version: ModelVersion) -> PreTrainedTokenizerBase:
    """A version's tokenizer, for which a turn's end is the end; of an adapter its base's."""
    tokenizer = AutoTokenizer.from_pretrained(adapters.base_of(version).path, local_files_only=True)
    if END_OF_TURN in tokenizer.get_vocab():
        tokenizer.eos_token = END_OF_TURN
    return tokenizer


def require_stage(version: ModelVersion, stage: str, allowed: tuple[str, ...]) -> None:
    """Raises LifecycleError when a stage is run on a parent that it cannot start from."""
    require_floats(version)
    if version.manifest.stage not in allowed:
        raise LifecycleError(
            f"{stage} starts from a version of stage {' or '.join(allowed)}, but {version.ref} is of stage "
            f'"{version.manifest.stage}": use --parent {allowed[0]}@latest'
        )


def require_whole(version: ModelVersion, stage: str) -> None:
    """Raises LifecycleError when a stage that adds words to a model is run on an adapter, which has none of its own."""
    if is_adapter(version.path):
        base = adapters.base_of(version).ref
        raise LifecycleError(f"{stage} needs a whole model, and {version.ref} is an adapter: use --parent {base}, what it was trained on")


def require_floats(version: ModelVersion) -> None:
    """Raises LifecycleError for a version in int8: what was rounded away cannot be trained or rounded again."""
    if is_int8(version.path):
        parents = version.manifest.parents
        instead = f"start from its parent {parents[0].ref} instead: --parent {parents[0].ref}" if parents else "import it in floating point"
        raise LifecycleError(f"{version.ref} holds int8 weights, and only weights in floating point can be trained or deployed: {instead}")


@contextmanager
def merged(version: ModelVersion) -> Iterator[ModelVersion]:
    """The version itself; of an adapter the same with a path to a whole checkpoint, while the context lasts.

    For what opens checkpoints and knows nothing of adapters: engines, report cards, reward models.
    """
    if not is_adapter(version.path):
        yield version
        return
    together = processes()

    def merge() -> None:
        if together.leads:
            model, tokenizer = load(version)
            write(place, model.merge_and_unload(), tokenizer, adapters.base_of(version), [])

    with ExitStack() as kept:
        place = together.tell(kept.enter_context(staging(version.path.parents[1])) if together.leads else None)
        together.in_turn(merge)
        yield replace(version, path=place)
        together.agree()  # nobody needs it any more


def write(directory: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parent: ModelVersion, history: list) -> None:
    """Fill a version directory: weights, tokenizer, the parent's generation config, the training log.

    Of an adapter what PEFT saves and the log; `parent` is its base then.
    """
    if isinstance(model, PeftModel):
        adapters.write(directory, model, parent)
        return write_log(directory, history)
    # generate() during evaluation may have changed the model's own; the parent's is what was meant.
    if (Path(parent.path) / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(parent.path)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    write_log(directory, history)


def write_log(directory: Path, history: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    (directory / LOG).write_text("".join(json.dumps(entry) + "\n" for entry in history))


def read_log(version: ModelVersion) -> list[dict[str, Any]]:
    """The training log of a published version, one entry a logged step."""
    return [json.loads(line) for line in (Path(version.path) / LOG).read_text().splitlines()]
