"""What makes two runs the same run, before either has begun."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from lifecycle.registry.canonical import canonical_json
from lifecycle.registry.manifest import DataRef, ModelVersion


def fingerprint(stage: str, config: Any, parents: Sequence[ModelVersion] = (), data: DataRef | None = None) -> str:
    """sha256 (hex) over everything that decides what a stage would produce.

    Two runs with the same stage, config (a dataclass or a mapping), parents (by manifest hash) and data (by id and
    hash) would produce the same version, so a pipeline asks `ModelRegistry.find` for it before it trains.
    """
    decisive = {
        "stage": stage,
        "config": config,
        "parents": [parent.manifest_hash for parent in parents],
        "data": None if data is None else {"id": data.id, "hash": data.hash},
    }
    return hashlib.sha256(canonical_json(decisive).encode()).hexdigest()
