"""One spelling for every value: what a manifest stores and what an identity hashes."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` as strict JSON types: dataclasses to dicts, tuples to lists, sets sorted, nan and infinities to strings.

    Numpy and torch scalars become Python numbers. Raises TypeError for anything else, naming its type.
    """
    if value is None or isinstance(value, (bool, int, str)) and not isinstance(value, enum.Enum):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)  # JSON has no nan
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted((plain(item) for item in value), key=canonical_json)
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if callable(getattr(value, "item", None)):
        return plain(value.item())
    raise TypeError(f"a manifest cannot hold a {type(value).__name__}: {value!r}")


def canonical_json(value: Any) -> str:
    """The only JSON text of a value: keys sorted, no spaces."""
    return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
