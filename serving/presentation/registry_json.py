"""Versions, lineage and differences of a registry as JSON, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry, ModelVersion
from lifecycle.registry.canonical import plain
from lifecycle.registry.card import CARD
from lifecycle.registry.comparison import Difference
from serving.application.ports import ServedModel
from serving.presentation.examinations import refusal

MOVES = 20


def overview_json(registry: ModelRegistry, served: Sequence[ServedModel]) -> dict[str, Any]:
    """Versions oldest first; a damaged one is listed with what is wrong with it."""
    aliases = registry.aliases()
    names = {model.version: model.name for model in served}
    versions = [_summary(registry, ref, aliases, names) for ref in registry.refs()]
    versions.sort(key=lambda one: one.get("created", ""))
    return {
        "versions": versions,
        "aliases": aliases,
        "moves": [plain(move) for move in registry.alias_moves()[-MOVES:][::-1]],
        "served": [{"model": one.name, "version": one.version, "aliases": list(one.aliases)} for one in served],
        "behind": behind(aliases, served),
    }


def behind(aliases: dict[str, str], served: Sequence[ServedModel]) -> list[dict[str, str]]:
    """Aliases that mean another version in the registry than to this server, which looked when it loaded the model."""
    return [
        {"alias": alias, "serves": model.version, "registry": aliases[alias]}
        for model in served
        for alias in model.aliases
        if aliases.get(alias, model.version) != model.version
    ]


def _summary(registry: ModelRegistry, ref: str, aliases: dict[str, str], names: dict[str, str]) -> dict[str, Any]:
    try:
        version = registry.resolve(ref)
    except LifecycleError as error:
        return {"ref": ref, "problem": str(error), "parents": [], "aliases": []}
    manifest = version.manifest
    headline = next(iter(manifest.metrics.items()), None)
    return {
        "ref": version.ref,
        "stage": manifest.stage,
        "created": manifest.created,
        "size": version.size,
        "parents": [parent.ref for parent in manifest.parents],
        "aliases": [alias for alias, target in aliases.items() if target == version.ref],
        "served_as": names.get(version.ref),
        "headline": None if headline is None else {"name": headline[0], "value": plain(headline[1])},
        "refusal": refusal(version),
    }


def version_json(version: ModelVersion) -> dict[str, Any]:
    """What the manifest says, and the model card's text without its front matter."""
    manifest = version.manifest
    card = version.path / CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    return {
        "ref": version.ref,
        "stage": manifest.stage,
        "preset": manifest.preset,
        "created": manifest.created,
        "seconds": manifest.seconds,
        "seed": manifest.seed,
        "commit": manifest.commit,
        "parents": [parent.ref for parent in manifest.parents],
        "data": plain(manifest.data) if manifest.data else None,
        "config": plain(manifest.config),
        "metrics": plain(manifest.metrics),
        "cost": plain(manifest.cost),
        "files": {name: record.size for name, record in manifest.files.items()},
        "manifest": version.manifest_hash,
        "card": text.split("\n---\n", 1)[-1].strip() if text.startswith("---") else text,
    }


def difference_json(difference: Difference) -> dict[str, Any]:
    """Section by section: [key, in a, in b]."""
    return {
        "a": difference.a,
        "b": difference.b,
        "sections": {
            name: [[key, plain(left), plain(right)] for key, (left, right) in changes.items()]
            for name, changes in difference.sections()
            if changes
        },
    }
