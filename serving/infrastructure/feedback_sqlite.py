"""Feedback in one SQLite file: nothing to run, survives being killed, and several processes may use it at once."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lifecycle.errors import LifecycleError
from serving.application.feedback import Feedback
from serving.domain.errors import FeedbackUnavailable, InvalidRequest

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
MEMORY = ":memory:"


class SqliteFeedback:
    """A `FeedbackStore`. `path` is a file, made when there is none, or ":memory:" for as long as the object lives.

    Connects when it is first used and in the process that uses it: a connection does not survive a fork. One connection
    behind a lock is enough for what people type. Call `check` to learn early whether the file can be used.
    """

    def __init__(self, path: Path | str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def check(self) -> None:
        """Open the file, and close it again. Raises LifecycleError that says what to type."""
        try:
            with closing(_open(self._path)):
                pass
        except sqlite3.Error as error:
            raise LifecycleError(
                f"cannot keep feedback in {self._path}: {error}. Choose another file with --feedback FILE"
            ) from None

    def add(self, feedback: Feedback) -> None:
        row = (
            feedback.id,
            feedback.created,
            feedback.tenant,
            feedback.kind,
            json.dumps(feedback.messages),
            json.dumps(feedback.answers),
            json.dumps(feedback.versions),
            feedback.chosen,
            feedback.comment,
        )
        with self._using() as connection, connection:
            connection.execute(f"INSERT INTO feedback ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def page(self, limit: int, *, after: str | None = None, tenant: str | None = None) -> list[Feedback]:
        with self._using() as connection:
            below = None
            if after is not None:
                below = connection.execute("SELECT number FROM feedback WHERE id = ?", (after,)).fetchone()
                if below is None:
                    raise InvalidRequest(f'there is no feedback "{after[:80]}"', param="after")
            found = connection.execute(
                f"SELECT {COLUMNS} FROM feedback WHERE (:below IS NULL OR number < :below) "
                "AND (:tenant IS NULL OR tenant = :tenant) ORDER BY number DESC LIMIT :limit",
                {"below": below and below[0], "tenant": tenant, "limit": limit},
            )
            return [_feedback(row) for row in found]

    def all(self, *, tenant: str | None = None) -> list[Feedback]:
        with self._using() as connection:
            found = connection.execute(
                f"SELECT {COLUMNS} FROM feedback WHERE :tenant IS NULL OR tenant = :tenant ORDER BY number",
                {"tenant": tenant},
            )
            return [_feedback(row) for row in found]

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self._path)
                yield self._connection
            except (sqlite3.Error, LifecycleError) as error:
                raise FeedbackUnavailable(f"feedback cannot be stored or read: {error}") from error


def _open(path: Path | str) -> sqlite3.Connection:
    """A connection to a database of our schema. Raises sqlite3.Error, or LifecycleError for a newer schema."""
    if path != MEMORY:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise sqlite3.OperationalError(error.strerror) from None
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


def _feedback(row: tuple) -> Feedback:
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
