"""Resumable work: one directory per (stage, fingerprint), so that the same command finds what it left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lifecycle.registry.manifest import ModelVersion
from lifecycle.registry.staging import discard, exclusive

WORK = ".work"
_HELD = ".parents"  # refs, one a line, that garbage collection must leave while the work lasts


def workspace(root: Path, name: str, fingerprint: str, parents: Sequence[ModelVersion] = ()) -> Path:
    place = _place(root, name, fingerprint)
    with exclusive(root):
        place.mkdir(parents=True, exist_ok=True)
        if parents:
            (place / _HELD).write_text("".join(f"{parent.ref}\n" for parent in parents))
    return place


def discard_workspace(root: Path, name: str, fingerprint: str) -> None:
    place = _place(root, name, fingerprint)
    if place.is_dir():
        with exclusive(root):
            discard(root, place)


def discard_finished(root: Path, fingerprint: str) -> None:
    """Remove what a process left that was killed after it had published, whatever the stage called it."""
    for place in (root / WORK).glob(f"*-{fingerprint[:12]}"):
        with exclusive(root):
            discard(root, place)


def held_refs(root: Path) -> list[str]:
    return [ref for file in (root / WORK).glob(f"*/{_HELD}") for ref in file.read_text().splitlines()]


def _place(root: Path, name: str, fingerprint: str) -> Path:
    return root / WORK / f"{name}-{fingerprint[:12]}"
