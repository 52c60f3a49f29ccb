"""API keys in a file: one JSON object a line, which names a tenant and holds the hash of a key, never the key.

    {"id": "5f0c...", "tenant": "acme", "hash": "9b1e...", "admin": false, "requests_per_minute": 60, "created": "..."}

A key is `lk-ID-SECRET`, and its secret is 256 random bits. Nobody guesses those, so one round of SHA-256 protects it as
well as scrypt would; a slow hash makes up for passwords that people choose, and here would only let anybody who sends
wrong keys keep the processor busy. The id is public: it finds the line; the hashes are then compared in constant time.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.config import near_miss
from lifecycle.errors import LifecycleError
from serving.application.access import Caller
from serving.domain.quota import Limits

ID_BYTES, SECRET_BYTES = 8, 32
TENANT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
LIMITS = tuple(field.name for field in fields(Limits))
UNLIMITED = Limits()
NOBODY = "0" * 64  # compared with when the id is unknown, so that this takes as long

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """One line of the file. The limits are the tenant's: all its keys have the same."""

    id: str
    tenant: str
    hash: str  # SHA-256 of the whole key, hexadecimal
    admin: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    created: str = ""

    @property
    def limits(self) -> Limits:
        return Limits(*(getattr(self, name) for name in LIMITS))

    @property
    def caller(self) -> Caller:
        return Caller(self.tenant, self.admin, self.limits, named=True)


class KeyFile:
    """`Keys` from a file that is read again when it has changed.

    A change that cannot be read is logged, and the keys known before stay valid: a slip of an editor locks nobody out.
    Raises LifecycleError if the file is not in order at the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen = _stamp(path)
        self._keys = {key.id: key for key in read_keys(path)}

    def __len__(self) -> int:
        return len(self._current())

    def find(self, key: bytes) -> Caller | None:
        known = self._current().get(_key_id(key))
        right = hmac.compare_digest(hash_key(key), known.hash if known else NOBODY)
        return known.caller if known and right else None

    def _current(self) -> dict[str, StoredKey]:
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._seen:
                self._seen = stamp
                try:
                    self._keys = {key.id: key for key in read_keys(self._path)}
                    log.info("%s has changed: %d keys", self._path, len(self._keys))
                except LifecycleError as error:
                    log.error("the API keys stay as they were: %s", error)
            return self._keys


def create_key(path: Path, tenant: str, *, admin: bool = False, limits: Limits = UNLIMITED) -> tuple[str, StoredKey]:
    """Append a new key and return it: the file does not hold it, so nobody can ever look it up again.

    Without `limits`, a further key of a tenant has those that the tenant has. Raises LifecycleError for others.
    """
    if not TENANT.fullmatch(tenant):
        raise LifecycleError(
            f'"{tenant}" cannot be a tenant: use letters, digits, ".", "_" and "-", 64 characters at most'
        )
    with _editing(path) as keys:
        own = next((key.limits for key in keys if key.tenant == tenant), None)
        if own is not None and limits and own != limits:
            raise LifecycleError(
                f'tenant "{tenant}" has keys with other limits: change all of them with lifecycle keys limit {tenant}'
            )
        id_ = secrets.token_hex(ID_BYTES)
        key = f"lk-{id_}-{secrets.token_urlsafe(SECRET_BYTES)}"
        created = datetime.now(UTC).isoformat(timespec="seconds")
        stored = StoredKey(id_, tenant, hash_key(key.encode()), admin, **asdict(own or limits), created=created)
        keys.append(stored)
    return key, stored


def revoke_key(path: Path, id_: str) -> StoredKey:
    """Remove a key; a running server refuses it from its next request on. Raises LifecycleError for an unknown id."""
    with _editing(path) as keys:
        for key in keys:
            if key.id == id_:
                keys.remove(key)
                return key
        hint = near_miss(id_, [key.id for key in keys])
        raise LifecycleError(f'{path} has no key "{id_}": lifecycle keys list shows the ids.{hint}')


def limit_tenant(path: Path, tenant: str, limits: Limits) -> int:
    """Give all keys of a tenant these limits; how many there are. Raises LifecycleError when there are none."""
    with _editing(path) as keys:
        count = 0
        for at, key in enumerate(keys):
            if key.tenant == tenant:
                keys[at] = replace(key, **asdict(limits))
                count += 1
        if not count:
            raise LifecycleError(f'{path} has no tenant "{tenant}".{near_miss(tenant, {key.tenant for key in keys})}')
    return count


def read_keys(path: Path) -> list[StoredKey]:
    """All keys of a file. Raises LifecycleError that names the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LifecycleError(
            f"{path} does not exist: make it with lifecycle keys --file {path} create --tenant NAME --admin"
        ) from None
    except OSError as error:
        raise LifecycleError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise LifecycleError(f"{path} is not UTF-8: API keys are one JSON object a line") from None
    keys: list[StoredKey] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            keys.append(_parse(line, keys))
        except ValueError as error:
            raise LifecycleError(f"{path}:{number}: {error}") from None
    return keys


def hash_key(key: bytes) -> str:
    """What a file holds of a key."""
    return hashlib.sha256(key).hexdigest()


def _parse(line: str, before: Sequence[StoredKey]) -> StoredKey:
    """One line. Raises ValueError with what is wrong about it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("expected a JSON object") from None
    if not isinstance(row, dict):
        raise ValueError("expected a JSON object")
    known = [field.name for field in fields(StoredKey)]
    for name in row:
        if name not in known:
            raise ValueError(f'unknown field "{name}".{near_miss(name, known)}')
    for name, pattern, what in (
        ("id", r"[0-9a-f]{4,64}", "hexadecimal digits"),
        ("tenant", TENANT.pattern, 'letters, digits, ".", "_" and "-"'),
        ("hash", r"[0-9a-f]{64}", "64 hexadecimal digits"),
    ):
        if not isinstance(row.get(name), str) or not re.fullmatch(pattern, row[name]):
            raise ValueError(f'"{name}" must be {what}')
    if not isinstance(row.get("admin", False), bool):
        raise ValueError('"admin" must be true or false')
    if not isinstance(row.get("created", ""), str):
        raise ValueError('"created" must be a string')
    for name in LIMITS:
        value = row.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= 10**9):
            raise ValueError(f'"{name}" must be a whole number above 0, or null')
    key = StoredKey(**row)
    for other in before:
        if other.id == key.id:
            raise ValueError(f'the id "{key.id}" occurs twice')
        if other.tenant == key.tenant and other.limits != key.limits:
            raise ValueError(f'tenant "{key.tenant}" has other limits on a line before: a tenant has one set of them')
    return key


def _key_id(key: bytes) -> str:
    parts = key.split(b"-", 2)
    return parts[1].decode("ascii", "replace") if len(parts) == 3 and parts[0] == b"lk" else ""


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextmanager
def _editing(path: Path) -> Iterator[list[StoredKey]]:
    """The keys to change; written back as one rename, readable by the owner only, unless the block raises."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path.with_name(f".{path.name}.lock"), "a")  # noqa: SIM115 - closed below
    except OSError as error:
        raise LifecycleError(f"cannot write {path}: {error.strerror}. Choose another one with --file") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else []
        yield keys
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
                file.write("".join(json.dumps(_row(key)) + "\n" for key in keys))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise LifecycleError(f"cannot write {path}: {error.strerror}") from None


def _row(key: StoredKey) -> dict[str, object]:
    return {name: value for name, value in asdict(key).items() if value is not None}
