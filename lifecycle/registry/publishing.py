"""Publishing: a directory becomes a version in one rename, after everything in it is on the disk, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.aliases import read_aliases
from lifecycle.registry.card import CARD, model_card
from lifecycle.registry.files import hash_file, hash_tree, settle, sync, told_when_full
from lifecycle.registry.lineage import follow
from lifecycle.registry.manifest import MANIFEST, Manifest, ModelVersion, read_version
from lifecycle.registry.references import numbers
from lifecycle.registry.remote import RemoteRegistry
from lifecycle.registry.staging import exclusive, staging


def publish(
    root: Path, draft: Manifest, write: Callable[[Path], None], card: str, remote: RemoteRegistry | None = None
) -> ModelVersion:
    """Let `write` fill a hidden directory, then give it the next number of `draft.name`.

    Any number of processes may do this at once; of those that did the same work, as `draft.fingerprint` says, the first one publishes. Where `root` is the mirror of a `remote` one, it is in there first. Whatever `write` raises passes through and leaves nothing behind; a
    full disk becomes a LifecycleError.
    """
    check_free(root, draft.name)
    with told_when_full(root), staging(root) as content:
        write(content)
        files = hash_tree(content)
        if not files:
            raise LifecycleError(f'nothing to publish as "{draft.name}": the directory was left empty')
        settle(content)
        with exclusive(root):
            number = _published(root, draft) or _commit(root, content, replace(draft, files=files), card, remote)
    return read_version(root, draft.name, number)


def check_free(root: Path, name: str) -> None:
    """Raise LifecycleError when `name` is an alias: one word must never mean two things."""
    if name in (aliases := read_aliases(root)):
        raise LifecycleError(f'"{name}" is an alias of {aliases[name]}: choose another name for the version')


def _published(root: Path, draft: Manifest) -> int | None:
    """The version of the same work, which another process has published meanwhile."""
    for number in reversed(numbers(root).get(draft.name, [])) if draft.fingerprint else ():
        with suppress(LifecycleError):  # one that cannot be read is in nobody's way
            if read_version(root, draft.name, number).manifest.fingerprint == draft.fingerprint:
                return number
    return None


def _commit(root: Path, content: Path, draft: Manifest, card: str, remote: RemoteRegistry | None) -> int:
    check_free(root, draft.name)
    number = max(numbers(root).get(draft.name, [0])) + 1
    for parent in draft.parents:
        follow(root, f"{draft.name}/{number}", parent)
    if remote is not None:
        number = remote.claim(draft.name, number)
    draft = replace(draft, number=number, created=datetime.now(UTC).isoformat(timespec="seconds"))
    (content / CARD).write_text(model_card(draft, card), encoding="utf-8")
    manifest = replace(draft, files={**draft.files, CARD: hash_file(content / CARD)})
    (content / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    for path in (content / CARD, content / MANIFEST, content):
        sync(path)
    if remote is not None:
        remote.upload(content, f"{draft.name}/{number}")
    home = root / draft.name
    home.mkdir(exist_ok=True)
    sync(root)
    os.rename(content, home / str(number))
    sync(home)
    return number

