"""Aliases: names such as "production" that move from version to version.

One append-only file is both the state and its history: the last line about an alias is where it points. A move is
one line appended under the registry lock and synced; a line counts once its newline is there, so a reader sees
either the old place or the new one, and there is no second file that a crash could leave out of step.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.registry.files import sync

ALIASES = "aliases.jsonl"
CANDIDATE = "candidate"
"""The alias of what servers try beside production."""


@dataclass(frozen=True)
class AliasMove:
    """Who moved an alias, when (ISO 8601, UTC), from which version (None: it is new) to which, and why."""

    alias: str
    source: str | None
    target: str
    reason: str
    user: str
    time: str


def read_moves(root: Path) -> list[AliasMove]:
    """Every move ever made, oldest first; raises LifecycleError naming the line that cannot be read."""
    file = root / ALIASES
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    complete = content[: content.rfind(b"\n") + 1]  # a last line without newline never happened
    moves = []
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            moves.append(parse_move(line))
        except ValueError as error:
            raise LifecycleError(f"corrupt alias log: {file}, line {number}: {error}. Mend or delete that line") from error
    return moves


def parse_move(line: bytes) -> AliasMove:
    """Raises ValueError for anything else."""
    loaded = json.loads(line)
    if not isinstance(loaded, dict) or loaded.keys() != {field.name for field in fields(AliasMove)}:
        raise ValueError("not an alias move")
    return AliasMove(**loaded)


def new_move(alias: str, source: str | None, target: str, reason: str) -> AliasMove:
    """One that this user makes now."""
    return AliasMove(alias, source, target, reason, _who(), datetime.now(UTC).isoformat(timespec="seconds"))


def read_aliases(root: Path) -> dict[str, str]:
    return {move.alias: move.target for move in read_moves(root)}


def previous(moves: Sequence[AliasMove], alias: str) -> str | None:
    """Where the alias pointed before it came to where it is.

    What was rolled back is never gone back to: a move back takes the move that it undoes out of the account.
    """
    way: list[str] = []
    for move in moves:
        if move.alias != alias or way[-1:] == [move.target]:
            continue
        if len(way) > 1 and way[-2] == move.target:
            way.pop()
        else:
            way.append(move.target)
    return way[-2] if len(way) > 1 else None


def append_move(root: Path, alias: str, target: str, reason: str) -> AliasMove:
    """Point `alias` at `target`. Call it inside `staging.exclusive`."""
    move = new_move(alias, read_aliases(root).get(alias), target, reason)
    line = json.dumps(asdict(move), ensure_ascii=False).encode() + b"\n"
    with open(root / ALIASES, "a+b", buffering=0) as file:
        file.seek(0)
        end = file.read().rfind(b"\n") + 1
        file.truncate(end)  # what a crash left of an unfinished line
        try:
            if file.write(line) != len(line):
                raise OSError("the disk took only part of the line")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    sync(root)
    return move


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
