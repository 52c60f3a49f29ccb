"""Data sets from files of the user's own: one JSON value a line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef


def read_rows(path: Path, missing: str, read: Callable[[Any], dict[str, Any]], expected: str) -> list[dict[str, Any]]:
    """What `read` makes of every line that is not blank.

    `missing` says what to give where there is no file, `expected` what a line should be that is no JSON or lacks what `read`
    looks up in it. Raises LifecycleError with either, and names the file and the line.
    """
    if not path.is_file():
        raise LifecycleError(f"{path} does not exist: give {missing}")
    rows = []
    # Not splitlines(): it also breaks at U+2028 and the like, which JSON allows inside a string.
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair passes JSON and is no text
            rows.append(read(value))
        except UnicodeEncodeError:
            raise LifecycleError(f"{path}, line {number}: half of a surrogate pair, \\ud800 to \\udfff, is no text: take it out") from None
        except (json.JSONDecodeError, KeyError, TypeError):
            raise LifecycleError(f"{path}, line {number}: expected {expected}") from None
        except LifecycleError as error:
            raise LifecycleError(f"{path}, line {number}: {error}") from None
    return rows


def as_data(path: Path, rows: list[dict[str, Any]]) -> tuple[Dataset, DataRef]:
    """Rows of a file as a data set, and the file's name and hash."""
    return Dataset.from_list(rows), DataRef(f"file:{path.name}", hashlib.sha256(path.read_bytes()).hexdigest())
