"""Resumable work: one directory per (stage, fingerprint), so that the same command finds what it left, and one process at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.staging import discard, exclusive

WORK = ".work"
_HELD = ".parents"  # refs, one a line, that garbage collection must leave while the work lasts
_OWNER = ".owner"
_OWNED: dict[Path, IO[str]] = {}  # what this process works in: the kernel lets go of it however the process ends


def workspace(root: Path, name: str, fingerprint: str, parents: Sequence[ModelVersion] = ()) -> Path:
    place = _place(root, name, fingerprint)
    with exclusive(root):
        place.mkdir(parents=True, exist_ok=True)
        _own(place)
        if parents:
            (place / _HELD).write_text("".join(f"{parent.ref}\n" for parent in parents))
    return place


def discard_workspace(root: Path, name: str, fingerprint: str) -> None:
    place = _place(root, name, fingerprint)
    if place.is_dir():
        _discard(root, place)
    if file := _OWNED.pop(place, None):
        file.close()


def discard_finished(root: Path, fingerprint: str) -> None:
    """Remove what a process left that was killed after it had published, whatever the stage called it."""
    for place in (root / WORK).glob(f"*-{fingerprint[:12]}"):
        _discard(root, place)


def _discard(root: Path, place: Path) -> None:
    with exclusive(root):
        if place.is_dir():  # still: another process may have found it, too
            discard(root, place)


def held_refs(root: Path) -> list[str]:
    return [ref for file in (root / WORK).glob(f"*/{_HELD}") for ref in file.read_text().splitlines()]


def _own(place: Path) -> None:
    """Raises LifecycleError when another process works here. Of processes that work together the first one owns the place."""
    if place in _OWNED or os.environ.get("RANK", "0") != "0":
        return
    file = open(place / _OWNER, "a")  # noqa: SIM115 - open for as long as the work lasts
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise LifecycleError(f"another process is doing this very work, in {place}: wait until it is done, then the same command finds the result") from None
    _OWNED[place] = file


def _place(root: Path, name: str, fingerprint: str) -> Path:
    return root / WORK / f"{name}-{fingerprint[:12]}"
