"""What nobody needs any more, and removing it without ever taking a version that another one stands on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.aliases import previous, read_aliases, read_moves
from lifecycle.registry.manifest import ModelVersion, read_version
from lifecycle.registry.references import numbers
from lifecycle.registry.staging import abandoned, discard, exclusive
from lifecycle.registry.workspaces import held_refs


@dataclass(frozen=True)
class Garbage:
    """Versions and abandoned temporary directories that were removed, or would be; `size` in bytes."""

    versions: tuple[ModelVersion, ...]
    temporary: tuple[Path, ...]
    size: int


def collect(root: Path, keep: int, dry_run: bool) -> Garbage:
    """Remove what is neither aliased, nor what an alias would go back to, nor among the newest `keep` of its name, nor an ancestor of such a version.

    Parents of unfinished work count as needed. `keep` is at least 1, so a number is never given out twice.
    """
    if keep < 1:
        raise LifecycleError(f"cannot keep {keep} versions: the newest of each name always stays, so --keep 1 or more")
    if not root.is_dir():
        return Garbage((), (), 0)
    with exclusive(root):
        versions = {version.ref: version for version in _all(root)}
        needed = _needed(root, versions, keep)
        unneeded = tuple(version for ref, version in versions.items() if ref not in needed)
        temporary = tuple(abandoned(root))
        size = sum(version.size for version in unneeded) + sum(map(_size, temporary))
        if not dry_run:
            for version in unneeded:
                discard(root, version.path)
            _clear(temporary)
    return Garbage(unneeded, temporary, size)


def sweep(root: Path) -> None:
    """Remove what killed publishers left here, and nothing else."""
    with exclusive(root):
        _clear(abandoned(root))


def _clear(places: Iterable[Path]) -> None:
    for place in places:
        shutil.rmtree(place, ignore_errors=True)  # its owner may be clearing up this moment


def _all(root: Path) -> Iterator[ModelVersion]:
    for name, found in numbers(root).items():
        for number in found:
            yield read_version(root, name, number)


def _needed(root: Path, versions: Mapping[str, ModelVersion], keep: int) -> set[str]:
    newest = [f"{name}/{number}" for name, found in numbers(root).items() for number in found[-keep:]]
    moves, aliases = read_moves(root), read_aliases(root)
    before = [ref for alias in aliases if (ref := previous(moves, alias))]
    waiting = [*newest, *aliases.values(), *before, *held_refs(root)]
    needed: set[str] = set()
    while waiting:
        ref = waiting.pop()
        if ref in versions and ref not in needed:
            needed.add(ref)
            waiting += [parent.ref for parent in versions[ref].manifest.parents]
    return needed


def _size(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*"))
