"""What differs between two versions."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import WEIGHTS, ModelVersion

Change = tuple[Any, Any]  # (in a, in b); None: absent there


@dataclass(frozen=True)
class Difference:
    """Only what differs, as (in a, in b); nested keys are joined with dots. Falsy when nothing does."""

    a: str
    b: str
    config: Mapping[str, Change]
    data: Mapping[str, Change]
    metrics: Mapping[str, Change]
    weights: Mapping[str, Change]  # "content": hash of them all, then each tensor that differs: sha256 of its bytes
    files: Mapping[str, Change]  # sha256
    tokenizer: Mapping[str, Change]

    def __bool__(self) -> bool:
        return any(changes for _, changes in self.sections())

    def sections(self) -> list[tuple[str, Mapping[str, Change]]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)[2:]]


def difference(a: ModelVersion, b: ModelVersion) -> Difference:
    def changes(facts) -> dict[str, Change]:
        left, right = _flat(facts(a)), _flat(facts(b))
        return {key: (left.get(key), right.get(key)) for key in left | right if left.get(key) != right.get(key)}

    return Difference(
        a.ref,
        b.ref,
        config=changes(lambda version: version.manifest.config),
        data=changes(lambda version: asdict(version.manifest.data) if version.manifest.data else {}),
        metrics=changes(lambda version: version.manifest.metrics),
        weights=changes(_weights) if a.content != b.content else {},
        files=changes(lambda version: {path: record.sha256 for path, record in version.manifest.files.items()}),
        tokenizer=changes(lambda version: _tokenizer(version.path)),
    )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in facts.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _weights(version: ModelVersion) -> dict[str, str | None]:
    """The hash of all weights, and of each tensor with its type and shape, read from the files in the version's directory."""
    found = {}
    for path in sorted(path for path in version.manifest.files if path.endswith(WEIGHTS)):
        with open(version.path / path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))  # the format of safetensors: a length, a JSON header, bytes
            header = json.loads(file.read(length))
            for name, tensor in sorted(header.items()):
                if name != "__metadata__":
                    begin, end = tensor["data_offsets"]
                    file.seek(8 + length + begin)
                    content = hashlib.sha256(file.read(end - begin)).hexdigest()
                    found[name] = f"{content[:16]} {tensor['dtype']} {tensor['shape']}"
    return {"content": version.content, **found}


def _tokenizer(directory: Path) -> dict[str, Any]:
    """The facts about a tokenizer that decide whether two models can read each other's tokens."""
    tokenizer = _json(directory / "tokenizer.json")
    config = _json(directory / "tokenizer_config.json")
    template = directory / "chat_template.jinja"
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    return {
        "vocabulary_size": len(vocabulary),
        "merges": len(tokenizer.get("model", {}).get("merges", ())),
        "added_tokens": [token["content"] for token in tokenizer.get("added_tokens", ())],
        "pre_tokenizer": tokenizer.get("pre_tokenizer"),
        "bos_token": config.get("bos_token"),
        "eos_token": config.get("eos_token"),
        "pad_token": config.get("pad_token"),
        "chat_template": template.read_text(encoding="utf-8") if template.exists() else config.get("chat_template"),
    }


def _json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_bytes()) if file.exists() else {}
    except ValueError as error:
        raise LifecycleError(f"corrupt file: {file} is not JSON: {error}") from error
