"""Where adapters come from: a version of the registry, or a directory that PEFT wrote."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from serving.infrastructure.lora import LoraWeights, is_adapter, read_adapter


@dataclass(frozen=True, slots=True)
class FoundAdapter:
    """An adapter that has been read; what only a registry knows is None or empty for a plain directory."""

    weights: LoraWeights
    version: str | None = None
    base: str | None = None
    """The version that it was trained on."""
    created: int | None = None
    lineage: tuple[str, ...] = ()


def find_adapter(ref: str, registry: ModelRegistry) -> FoundAdapter:
    """A registry version, its hashes checked. Raises LifecycleError."""
    version = registry.load(ref)
    if not is_adapter(version.path):
        raise LifecycleError(f"{version.ref} is a whole model, not an adapter: load it as a model of its own")
    parents = version.manifest.parents
    return FoundAdapter(
        read_adapter(version.path),
        version=version.ref,
        base=parents[0].ref if parents else None,
        created=int(datetime.fromisoformat(version.manifest.created).timestamp()),
        lineage=tuple(ancestor.ref for ancestor in registry.lineage(version.ref)),
    )


def find_adapter_anywhere(ref: str, registry: ModelRegistry) -> FoundAdapter:
    """The same for a directory as well, for whoever starts the server: over HTTP no paths are taken."""
    directory = Path(ref)
    return FoundAdapter(read_adapter(directory)) if is_adapter(directory) else find_adapter(ref, registry)
