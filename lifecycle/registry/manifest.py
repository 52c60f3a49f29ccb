"""What a version says about itself: `manifest.json`, typed, validated, and never trusted before that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.registry.canonical import canonical_json, plain

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class FileRecord:
    """One file of a version: sha256 in hex, size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class ParentRef:
    """A version that this one was made from; `manifest` is the sha256 of its manifest.json, so the chain is checkable."""

    ref: str
    manifest: str


@dataclass(frozen=True)
class DataRef:
    """The data a version was trained on: a readable id, a hash of its content, and whatever explains it."""

    id: str
    hash: str
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`."""

    format_version: int
    name: str
    stage: str
    number: int
    parents: tuple[ParentRef, ...]
    files: Mapping[str, FileRecord]  # by path relative to the version directory, "/" on every system
    config: Mapping[str, Any]
    preset: str | None
    data: DataRef | None
    metrics: Mapping[str, Any]  # the first one is the headline
    seed: int | None
    fingerprint: str | None
    libraries: Mapping[str, str]
    commit: str | None  # of the code; ends in "+changes" when the working tree was not clean
    created: str  # ISO 8601, UTC
    seconds: float | None
    cost: Mapping[str, Any]

    def to_json(self) -> str:
        return json.dumps(plain(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse and check every field; raises ValueError saying which one is wrong."""
        loaded = json.loads(text)
        if isinstance(loaded, dict) and loaded.get("format_version", FORMAT_VERSION) != FORMAT_VERSION:
            raise ValueError(
                f"format_version is {loaded['format_version']!r}, this code reads {FORMAT_VERSION}; update the package"
            )
        return _typed(loaded, cls, "manifest")


@dataclass(frozen=True)
class ModelVersion:
    """One immutable version: a Hugging Face checkpoint directory whose manifest has been read and validated."""

    name: str
    number: int
    path: Path
    manifest: Manifest
    manifest_hash: str  # sha256 (hex) of the bytes of manifest.json

    @property
    def ref(self) -> str:
        return f"{self.name}/{self.number}"

    @property
    def content(self) -> str | None:
        """sha256 (hex) over the names and hashes of the weight files: equal for equal weights, whenever and wherever made.

        None for a version without weights.
        """
        weights = {path: record.sha256 for path, record in self.manifest.files.items() if path.endswith(WEIGHTS)}
        return hashlib.sha256(canonical_json(weights).encode()).hexdigest() if weights else None

    @property
    def size(self) -> int:
        """Bytes of all files but the manifest."""
        return sum(record.size for record in self.manifest.files.values())


def read_version(root: Path, name: str, number: int) -> ModelVersion:
    """The version in `<root>/<name>/<number>`; raises LifecycleError naming the manifest that is missing or wrong."""
    path = root / name / str(number)
    file = path / MANIFEST
    try:
        content = file.read_bytes()
        manifest = Manifest.from_json(content)
        if (manifest.name, manifest.number) != (name, number):
            raise ValueError(f"it describes {manifest.name}/{manifest.number}; versions cannot be renamed or copied")
    except (OSError, ValueError) as error:
        raise LifecycleError(
            f'corrupt version "{name}/{number}": cannot read {file}: {error}. Restore it from a copy or remove {path}'
        ) from error
    return ModelVersion(name, number, path, manifest, hashlib.sha256(content).hexdigest())


def _typed(value: Any, kind: Any, where: str) -> Any:
    """`value` from JSON as `kind` (a dataclass, tuple, mapping, union or plain type); ValueError names the place."""
    if kind is Any:
        return value
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _typed(value, arguments[0], where)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _typed(item, arguments[1], f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _dataclass(value, kind, where)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"{where} must be {getattr(kind, '__name__', kind)}, not {value!r}")


def _dataclass(value: dict[str, Any], kind: type, where: str) -> Any:
    hints = typing.get_type_hints(kind)
    if wrong := sorted(hints.keys() ^ value.keys()):
        raise ValueError(f"{where} has a missing or unknown field: {', '.join(wrong)}")
    return kind(**{key: _typed(value[key], hint, f"{where}.{key}") for key, hint in hints.items()})
