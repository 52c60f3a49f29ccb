"""In and out: any Hugging Face checkpoint directory becomes a version, any version becomes a plain directory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.canonical import canonical_json
from lifecycle.registry.card import CARD
from lifecycle.registry.files import disk_is_full, hash_file
from lifecycle.registry.manifest import MANIFEST, FileRecord, ModelVersion

KEPT = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".tiktoken"})
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl"})
PARTS = ("codec",)
"""Directories inside a checkpoint that belong to it: a codec, of a model that hears and speaks."""
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
UPSTREAM_CARD = "README.upstream.md"


def export(version: ModelVersion, directory: Path) -> Path:
    """Copy every file of a version to a new or empty directory; it appears there complete or not at all."""
    directory = directory.expanduser().absolute()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LifecycleError(f"cannot export to {directory}: it exists and is not an empty directory; name a new one")
    partial = directory.with_name(f".{directory.name}.{uuid.uuid4().hex}")
    try:
        shutil.copytree(version.path, partial)
        os.rename(partial, directory)
    except OSError as error:
        why = "the disk is full" if disk_is_full(error) else error
        raise LifecycleError(f"cannot export {version.ref} to {directory}: {why}; nothing was left there") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return directory


def checkpoint_files(directory: Path) -> dict[str, Path]:
    """What to take from a checkpoint directory, by the name it gets in the version.

    Raises LifecycleError when it is no checkpoint, when weights are missing or cut short, or when they are pickles.
    """
    if not directory.is_dir():
        raise LifecycleError(f"cannot import {directory}: there is no such directory")
    present = {path.name: path for path in sorted(directory.iterdir()) if path.is_file()}
    _check_config(directory, present)
    if WEIGHTS not in present and INDEX not in present:
        if any(path.suffix in PICKLES for path in present.values()):
            raise LifecycleError(
                f"cannot import {directory}: its weights are pickles, which can run code when they are loaded; convert them "
                "to safetensors where you trust them: AutoModelForCausalLM.from_pretrained(dir).save_pretrained(new_dir)"
            )
        raise LifecycleError(f"cannot import {directory}: it has neither {WEIGHTS} nor {INDEX}")
    _check_weights(present)
    taken = {name: path for name, path in present.items() if _wanted(path)}
    taken |= {f"{part}/{path.name}": path for part in PARTS for path in sorted((directory / part).glob("*")) if path.is_file() and _wanted(path)}
    if CARD in present and MANIFEST not in present:  # the card of one of our own versions is written anew
        taken[UPSTREAM_CARD] = present[CARD]
    return taken


def content_hash(files: dict[str, FileRecord]) -> str:
    """sha256 (hex) of the names and hashes of a set of files."""
    return hashlib.sha256(canonical_json({name: record.sha256 for name, record in files.items()}).encode()).hexdigest()


def hash_files(files: dict[str, Path]) -> dict[str, FileRecord]:
    return {name: hash_file(path) for name, path in files.items()}


def _wanted(path: Path) -> bool:
    if path.name.startswith(".") or path.name == MANIFEST:
        return False
    return path.suffix in KEPT or path.name.upper().startswith(("LICENSE", "NOTICE"))


def _check_config(directory: Path, present: dict[str, Path]) -> None:
    if "config.json" not in present:
        raise LifecycleError(f"cannot import {directory}: it has no config.json, so it is no Hugging Face checkpoint")
    try:
        config = json.loads(present["config.json"].read_bytes())
    except ValueError as error:
        raise LifecycleError(f"cannot import {directory}: {present['config.json']} is not JSON: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise LifecycleError(f'cannot import {directory}: {present["config.json"]} has no "model_type"')


def _check_weights(present: dict[str, Path]) -> None:
    """Every shard is there and as long as its header says; no tensor is read."""
    from safetensors import SafetensorError, safe_open

    shards = {WEIGHTS} & present.keys()
    if INDEX in present:
        try:
            shards |= set(json.loads(present[INDEX].read_bytes())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise LifecycleError(f"cannot import: {present[INDEX]} is not an index of weights: {error!r}") from error
    for shard in sorted(shards):
        if shard not in present:
            raise LifecycleError(f"cannot import: {shard}, which {INDEX} names, is missing")
        try:
            with safe_open(present[shard], framework="numpy"):
                pass
        except SafetensorError as error:
            raise LifecycleError(f"cannot import: {present[shard]} is corrupt: {error}") from error
