"""Conversations to token ids and a mask of what the assistant said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from lifecycle.errors import LifecycleError
from lifecycle.registry import DataRef


def read(path: str | Path) -> tuple[Dataset, DataRef]:
    """Conversations from a file, one JSON object {"messages": [...], "tools": [...]} a line.

    Raises LifecycleError that names the file and the line.
    """
    path = Path(path)
    if not path.is_file():
        raise LifecycleError(f'{path} does not exist: give "world" or a .jsonl file with one {{"messages": [...]}} a line')
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            roles = [message["role"] for message in row["messages"]]
        except (json.JSONDecodeError, KeyError, TypeError):
            raise LifecycleError(f'{path}, line {number}: expected {{"messages": [{{"role": ..., "content": ...}}]}}') from None
        if "assistant" not in roles:
            raise LifecycleError(f"{path}, line {number}: no message of the assistant to learn from")
        rows.append({"messages": json.dumps(row["messages"]), "tools": json.dumps(row.get("tools"))})
    if not rows:
        raise LifecycleError(f"{path} is empty: give at least one conversation")
    return Dataset.from_list(rows), DataRef(f"file:{path.name}", hashlib.sha256(path.read_bytes()).hexdigest())


def tokenize(conversations: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Columns "input_ids" and "assistant_masks" (1 where the assistant speaks), which is what SFTTrainer packs.

    `conversations` has a column "messages" and, optionally, "tools", each a list or the same as JSON text.
    Raises LifecycleError when there is nothing to learn from.
    """
    if len(conversations) == 0:
        raise LifecycleError("the conversations are empty: give at least one")
    if "messages" not in conversations.column_names:
        raise LifecycleError(f'conversations need a column "messages", there is only {", ".join(conversations.column_names)}')

    def encode(row: dict) -> dict[str, list[int]]:
        encoded = tokenizer.apply_chat_template(
            _parsed(row["messages"]),
            tools=_parsed(row.get("tools")),
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
        return {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}

    rows = [encode(row) for row in conversations]
    if not any(any(row["assistant_masks"]) for row in rows):
        raise LifecycleError(
            "no conversation has an assistant's turn that the chat template marks: "
            "the template needs {% generation %} around the assistant's text"
        )
    return Dataset.from_list(rows)


def _parsed(value):
    return json.loads(value) if isinstance(value, str) else value
