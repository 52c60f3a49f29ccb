"""Files that must survive: hashing, syncing to disk, and finding out what is wrong with a directory."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.manifest import MANIFEST, FileRecord


def hash_file(path: Path) -> FileRecord:
    with open(path, "rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), os.fstat(file.fileno()).st_size)


def list_files(directory: Path) -> list[str]:
    """Relative paths of all files below, sorted; raises LifecycleError for anything that is not a file or directory."""
    found = []
    for folder, folders, names in os.walk(directory):
        for name in folders + names:
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise LifecycleError(f"{path} is a link or a device: a version holds regular files only, copy its target")
        found += [Path(folder, name).relative_to(directory).as_posix() for name in names]
    return sorted(found)


def hash_tree(directory: Path) -> dict[str, FileRecord]:
    """Every file below `directory` but the manifest, by relative path."""
    return {path: hash_file(directory / path) for path in list_files(directory) if path != MANIFEST}


def sync(path: Path) -> None:
    """Force one file or directory to the disk: a rename is only as durable as what it renames."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settle(directory: Path) -> None:
    """Sync everything below, and let whoever may read the directory read its files: safetensors saves for the owner only."""
    mode = directory.stat().st_mode & 0o666
    for folder, _, names in os.walk(directory, topdown=False):
        for name in names:
            Path(folder, name).chmod(mode)
            sync(Path(folder, name))
        sync(Path(folder))


def problems(directory: Path, expected: Mapping[str, FileRecord]) -> list[str]:
    """Every difference between a directory and the files its manifest records, one line each, naming the file."""
    try:
        present = set(list_files(directory)) - {MANIFEST}
    except LifecycleError as error:
        return [str(error)]
    lines = []
    for path, record in expected.items():
        if path not in present:
            lines.append(f"{path} is missing")
        elif (found := hash_file(directory / path)).size != record.size:
            lines.append(f"{path} is corrupt: {found.size} bytes, the manifest says {record.size}")
        elif found.sha256 != record.sha256:
            lines.append(f"{path} is corrupt: sha256 {found.sha256[:12]}..., the manifest says {record.sha256[:12]}...")
    return lines + [f"{path} is not in the manifest" for path in sorted(present - expected.keys())]


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an exception, or one that it was raised from, is a full disk or an exhausted quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if "No space left on device" in str(error):  # safetensors raises its own type, the number only in the text
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def told_when_full(root: Path) -> Iterator[None]:
    """A full disk becomes a LifecycleError that says what to do; everything else passes through."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, LifecycleError) and disk_is_full(error):
            raise LifecycleError(
                f"the disk is full: nothing was published to the registry {root}. "
                'Make room, for example with "lifecycle models gc", and run the same command again'
            ) from error
        raise
