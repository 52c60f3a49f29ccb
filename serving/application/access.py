"""Who is asking. Keys say which tenant a request belongs to, what it may use, and whether it may run the server."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from serving.domain.quota import Limits


@dataclass(frozen=True, slots=True)
class Caller:
    """One side of a request. `named`: somebody gave the tenant its name, so it may appear in metrics."""

    tenant: str
    admin: bool = False
    limits: Limits = Limits()
    named: bool = False


class Keys(Protocol):
    """Knows keys; the comparison takes as long for a wrong key as for a right one."""

    def find(self, key: bytes) -> Caller | None:
        """Whose key it is, or None."""


class SingleKey:
    """`Keys` of one: whoever has it is the one who runs the server."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._caller = Caller(anonymous_tenant(self._key), admin=True)

    def find(self, key: bytes) -> Caller | None:
        return self._caller if hmac.compare_digest(key, self._key) else None


def find_caller(keys: Iterable[Keys], key: bytes) -> Caller | None:
    """The first owner of a key."""
    for some in keys:
        if (caller := some.find(key)) is not None:
            return caller
    return None


def anonymous_tenant(key: bytes) -> str:
    """The tenant of a key that no file names: it keeps the prefix caches of two of them apart."""
    return hashlib.sha256(key).hexdigest()[:16] if key else "default"
