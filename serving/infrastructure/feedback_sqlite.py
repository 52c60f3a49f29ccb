"""Feedback in one SQLite file: nothing to run, survives being killed, and several processes may use it at once."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lifecycle.errors import LifecycleError
from lifecycle.feedback.judgements import Feedback
from lifecycle.feedback.sqlite_file import COLUMNS, FILE_NAME, connect, from_row, select_all
from serving.domain.errors import FeedbackUnavailable, InvalidRequest

__all__ = ["FILE_NAME", "SqliteFeedback"]


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
            with closing(connect(self._path)):
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
            return [from_row(row) for row in found]

    def all(self, *, tenant: str | None = None) -> list[Feedback]:
        with self._using() as connection:
            return select_all(connection, tenant)

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
                    self._connection = connect(self._path)
                yield self._connection
            except (sqlite3.Error, LifecycleError) as error:
                raise FeedbackUnavailable(f"feedback cannot be stored or read: {error}") from error
