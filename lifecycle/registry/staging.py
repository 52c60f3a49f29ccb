"""Half-written things: where they live, who owns them, and how one learns that the owner is gone.

Ownership is an advisory `flock`, never a process id: the kernel lets go of it however the owner dies, and a process id
that has been given to somebody else cannot pass for the owner.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.files import disk_is_full

STAGING = ".staging"
_OWNER = "owner"


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """The registry lock: whoever numbers a version, moves an alias or collects garbage holds it, for moments only."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = open(root / ".lock", "a")  # noqa: SIM115 - closed below, whatever the block raises
    except OSError as error:
        if disk_is_full(error):
            raise
        raise LifecycleError(
            f"cannot write to the registry {root}: {error.strerror}. Set LIFECYCLE_REGISTRY to a directory that you can write to"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def staging(root: Path) -> Iterator[Path]:
    """An empty directory on the registry's file system, gone when the block ends, however it ends.

    A killed owner leaves it behind, invisible to readers; `abandoned` finds it.
    """
    place = root / STAGING / uuid.uuid4().hex
    with ExitStack() as alive:
        try:
            with exclusive(root):  # so that nobody takes it for abandoned between mkdir and flock
                place.mkdir(parents=True)
                fcntl.flock(alive.enter_context(open(place / _OWNER, "w")), fcntl.LOCK_EX)
            (place / "content").mkdir()
            yield place / "content"
        finally:
            shutil.rmtree(place, ignore_errors=True)


def abandoned(root: Path) -> list[Path]:
    """Staging places whose owner is gone. Call it, and remove them, inside `exclusive`."""
    places = sorted((root / STAGING).glob("*"))
    return [place for place in places if not _alive(place)]


def discard(root: Path, path: Path) -> None:
    """Make a directory disappear at once, then delete it: a crash in between leaves an abandoned place, never half."""
    place = root / STAGING / uuid.uuid4().hex
    place.parent.mkdir(exist_ok=True)
    os.rename(path, place)
    shutil.rmtree(place)


def _alive(place: Path) -> bool:
    try:
        with open(place / _OWNER) as owner:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
