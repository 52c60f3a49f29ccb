"""A checkpoint directory on this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.store import ModelRegistry


def accepts(source: str) -> bool:
    return True


def bring(registry: ModelRegistry, source: str, name: str | None, say: Callable[[str], None]) -> ModelVersion:
    path = Path(source).expanduser().absolute()
    if not path.is_dir():
        raise LifecycleError(f'cannot import "{source}": write smollm2, hf:ORG/NAME, or a directory that exists')
    say(f"copying {path}")
    return registry.import_directory(path, name or path.name.lower())
