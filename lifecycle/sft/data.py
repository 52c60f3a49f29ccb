"""Conversations to token ids and a mask of what the assistant said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from lifecycle.errors import LifecycleError
from lifecycle.jsonl import as_data, read_rows
from lifecycle.registry import DataRef
from lifecycle.training.batches import Documents


def read(path: str | Path) -> tuple[Dataset, DataRef]:
    """Conversations from a file, one JSON object {"messages": [...], "tools": [...]} a line.

    Raises LifecycleError that names the file and the line.
    """
    path = Path(path)
    rows = read_rows(
        path,
        '"world" or a .jsonl file with one {"messages": [...]} a line',
        _conversation,
        '{"messages": [{"role": ..., "content": ...}]}',
    )
    if not rows:
        raise LifecycleError(f"{path} is empty: give at least one conversation")
    return as_data(path, rows)


def _conversation(row: dict) -> dict[str, str]:
    if "assistant" not in [message["role"] for message in row["messages"]]:
        raise LifecycleError("no message of the assistant to learn from")
    return {"messages": json.dumps(row["messages"]), "tools": json.dumps(row.get("tools"))}


def tokenize(conversations: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Columns "input_ids" and "assistant_masks" (1 where the assistant speaks), which is what SFTTrainer packs.

    `conversations` has a column "messages" and, optionally, "tools", each a list or the same as JSON text.
    Raises LifecycleError when there is nothing to learn from, or a conversation that the template cannot tell.
    """
    if len(conversations) == 0:
        raise LifecycleError("the conversations are empty: give at least one")
    if "messages" not in conversations.column_names:
        raise LifecycleError(f'conversations need a column "messages", there is only {", ".join(conversations.column_names)}')

    def encode(number: int, row: dict) -> dict[str, list[int]]:
        try:
            encoded = tokenizer.apply_chat_template(
                _parsed(row["messages"]),
                tools=_parsed(row.get("tools")),
                return_assistant_tokens_mask=True,
                return_dict=True,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise LifecycleError(f"conversation {number} does not fit the chat template: {error}") from error
        return {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}

    rows = [encode(number, row) for number, row in enumerate(conversations, 1)]
    if not any(any(row["assistant_masks"]) for row in rows):
        raise LifecycleError(
            "no conversation has an assistant's turn that the chat template marks: "
            "the template needs {% generation %} around the assistant's text, as lifecycle/model/chat_template.jinja has it"
        )
    return Dataset.from_list(rows)


def as_documents(rows: Dataset, longest: int) -> Documents:
    """What `tokenize` gave, for our own loop: each conversation a row, cut after `longest` + 1 tokens, learnt where masked.

    A conversation of which nothing is learnt, or nothing within that length, is left out; raises LifecycleError when
    that leaves none.
    """
    kept, learnt = [], []
    for row in rows:
        ids, mask = (np.array(row[column][: longest + 1]) for column in ("input_ids", "assistant_masks"))
        if mask[1:].any():
            kept.append(ids)
            learnt.append(mask.astype(bool))
    if not kept:
        raise LifecycleError(f"no assistant's word is among the first {longest} tokens of any conversation: raise --set max_length=")
    ends = np.cumsum([len(ids) for ids in kept])
    return Documents(np.concatenate(kept), ends - [len(ids) for ids in kept], ends, np.concatenate(learnt))


@dataclass(frozen=True)
class PackedRows:
    """Collates packed rows to a rectangle, [rows, longest], in which no conversation sees another.

    TRL's own collator for packed rows joins them to a single long one, and attention pays for its square. Positions that
    start again at 0 are what transformers builds the block-diagonal causal mask from (there must be no attention mask).
    """

    pad_token_id: int

    def __call__(self, rows: list[dict]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        batch: dict[str, list[list[int]]] = {"input_ids": [], "labels": [], "position_ids": []}
        for row in rows:
            padding = longest - len(row["input_ids"])
            lengths = [*row["seq_lengths"], *([padding] if padding else [])]  # the padding is a conversation of its own
            batch["input_ids"].append([*row["input_ids"], *[self.pad_token_id] * padding])
            batch["labels"].append([*row["labels"], *[-100] * padding])
            batch["position_ids"].append([position for length in lengths for position in range(length)])
        return {name: torch.tensor(values) for name, values in batch.items()}


def _parsed(value):
    return json.loads(value) if isinstance(value, str) else value
