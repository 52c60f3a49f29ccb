"""The file that feedback is kept in: its tables, how to open it, and how to read it."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.feedback.judgements import Feedback

FILE_NAME = "feedback.sqlite"
"""In the root of the registry, beside the versions whose answers it judges."""
SCHEMA_VERSION = 1
SCHEMA = """
CREATE TABLE feedback (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    created REAL NOT NULL,
    tenant TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('thumb', 'comparison')),
    messages TEXT NOT NULL,
    answers TEXT NOT NULL,
    versions TEXT NOT NULL,
    chosen INTEGER CHECK (chosen IN (0, 1)),
    comment TEXT
);
CREATE INDEX feedback_tenant ON feedback (tenant, number);
"""
COLUMNS = "id, created, tenant, kind, messages, answers, versions, chosen, comment"
PAGE_BYTES, MAX_BYTES = 4096, 2**30
"""A database that would grow beyond this is full: whoever may give feedback must not fill the disk."""
BUSY_SECONDS = 10.0  # how long to wait for another process that is writing
BUSY_PAUSE = 0.01  # between two tries where SQLite does not wait by itself
MEMORY = ":memory:"


def read_all(path: Path | str, tenant: str | None = None) -> list[Feedback]:
    """All judgements of a file, oldest first, of one tenant or of all; a server may go on collecting meanwhile.

    Raises LifecycleError that says what to type when there is no such file, or it holds something else.
    """
    if not Path(path).is_file():
        raise LifecycleError(f"{path} does not exist: serve with lifecycle serve --feedback FILE, mark some answers, and name that FILE")
    try:
        with closing(connect(path)) as connection:
            return select_all(connection, tenant)
    except sqlite3.Error as error:
        raise LifecycleError(f"{path} holds no feedback: {error}. Name the file of a server, feedback.sqlite in its registry") from None


def select_all(connection: sqlite3.Connection, tenant: str | None = None) -> list[Feedback]:
    """Oldest first, of one tenant or of all."""
    found = connection.execute(
        f"SELECT {COLUMNS} FROM feedback WHERE :tenant IS NULL OR tenant = :tenant ORDER BY number", {"tenant": tenant}
    )
    return [from_row(row) for row in found]


def connect(path: Path | str) -> sqlite3.Connection:
    """A connection to a database of our schema. Raises sqlite3.Error, or LifecycleError for a newer schema."""
    if path != MEMORY:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from None
    tries_end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _open(path)
        except sqlite3.OperationalError as error:
            # While one process turns the file into WAL, or the last one leaves it, SQLite tells others "busy" at once:
            # it cannot wait for a lock that its own read lock may be in the way of.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > tries_end:
                raise
            time.sleep(BUSY_PAUSE)


def _open(path: Path | str) -> sqlite3.Connection:
    """One try of `connect`."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level="IMMEDIATE")
    try:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute(f"PRAGMA max_page_count = {MAX_BYTES // PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")  # readers and one writer do not wait for each other
        connection.execute("PRAGMA synchronous = FULL")  # or power failures take the last ones
        connection.execute("BEGIN IMMEDIATE")  # two processes may both find the file new
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise LifecycleError(f"{path} was written by a newer version of this program: update this one")
        if version == 0:
            for statement in filter(str.strip, SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.commit()
    except BaseException:
        connection.close()
        raise
    return connection


def from_row(row: tuple) -> Feedback:
    """One judgement from the columns `COLUMNS`."""
    id_, created, tenant, kind, messages, answers, versions, chosen, comment = row
    return Feedback(
        kind=kind,
        tenant=tenant,
        messages=tuple(json.loads(messages)),
        answers=tuple(json.loads(answers)),
        versions=tuple(json.loads(versions)),
        chosen=chosen,
        comment=comment,
        id=id_,
        created=created,
    )
