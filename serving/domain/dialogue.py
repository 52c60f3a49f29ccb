"""What a spoken conversation consists of, and what of it everybody has heard.

An answer that was interrupted was heard up to a moment; the words after it were never said as far as the listener knows, so
they are not part of the history either.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from serving.domain.errors import InvalidRequest

Kind = Literal["message", "function_call", "function_call_output"]
Status = Literal["in_progress", "completed", "incomplete"]
PartKind = Literal["input_text", "input_audio", "output_text", "output_audio"]
MOST_ITEMS = 2048
"""In one conversation."""
ROOT = "root"
"""Instead of an item's id: before the first one."""


@dataclass(slots=True)
class Part:
    """A piece of a message. `text` is what it says: of sound, its transcript, None while nobody has listened to it.

    `spoken` says which words take how many milliseconds; `heard_ms` is where the listener interrupted, None: nowhere.
    """

    kind: PartKind
    text: str | None = ""
    spoken: list[tuple[str, float]] = field(default_factory=list)
    heard_ms: float | None = None

    @property
    def heard(self) -> str:
        """The words that were heard: whole pieces before the interruption, and of the last one its share, word by word."""
        if self.heard_ms is None:
            return self.text or ""
        return "".join(_until(self.spoken, self.heard_ms)).rstrip()


def _until(spoken: list[tuple[str, float]], moment: float) -> Iterator[str]:
    for text, lasts in spoken:
        if moment >= lasts:
            moment -= lasts
            yield text
            continue
        words = text.split(" ")
        yield " ".join(words[: int(len(words) * max(moment, 0.0) / lasts)])
        return


@dataclass(slots=True)
class Item:
    """A message, a call of a function, or what a function answered."""

    id: str
    kind: Kind = "message"
    role: Literal["system", "user", "assistant"] = "user"
    parts: list[Part] = field(default_factory=list)
    status: Status = "completed"
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str = ""

    @property
    def text(self) -> str:
        """What was heard of it."""
        return " ".join(part.heard for part in self.parts if part.heard)


class Dialogue:
    """Items in their order. Not safe from several threads. `version` grows with every change of what the model would read."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self.version = 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)

    @property
    def last(self) -> str | None:
        """The id of the last item."""
        return self._items[-1].id if self._items else None

    def get(self, item_id: str, param: str = "item_id") -> Item:
        """Raises `InvalidRequest`."""
        return self._items[self._index(item_id, param)]

    def add(self, item: Item, after: str | None = None) -> str | None:
        """Put an item behind another one, by default the last; the id of the one before it. Raises `InvalidRequest`."""
        if len(self._items) >= MOST_ITEMS:
            raise InvalidRequest(f"a conversation has at most {MOST_ITEMS} items: delete some with conversation.item.delete")
        if any(one.id == item.id for one in self._items):
            raise InvalidRequest(f'there is an item "{item.id}" already', param="item.id", code="item_already_exists")
        at = len(self._items) if after is None else 0 if after == ROOT else self._index(after, "previous_item_id") + 1
        self._items.insert(at, item)
        self.version += 1
        return self._items[at - 1].id if at else None

    def remove(self, item_id: str) -> None:
        """Raises `InvalidRequest`."""
        del self._items[self._index(item_id, "item_id")]
        self.version += 1

    def truncate(self, item_id: str, part: int, heard_ms: float) -> None:
        """An answer was heard up to here. Raises `InvalidRequest`."""
        item = self.get(item_id)
        if item.role != "assistant" or item.kind != "message":
            raise InvalidRequest(f'"{item_id}" is no spoken answer: only those can be truncated', param="item_id")
        if not 0 <= part < len(item.parts):
            raise InvalidRequest(f'"{item_id}" has no content {part}', param="content_index")
        length = sum(lasts for _, lasts in item.parts[part].spoken)
        if heard_ms > length + 1:
            raise InvalidRequest(f"the audio of that content lasts {length:.0f} ms, not {heard_ms:.0f}", param="audio_end_ms")
        item.parts[part].heard_ms = heard_ms
        self.version += 1

    def messages(self, instructions: str = "") -> list[dict[str, Any]]:
        """As chat templates take them; what is still being said or heard is left out."""
        return messages_of(self._items, instructions)

    def _index(self, item_id: str, param: str) -> int:
        for at, item in enumerate(self._items):
            if item.id == item_id:
                return at
        raise InvalidRequest(f'there is no item "{item_id}" in this conversation', param=param, code="item_not_found")


def messages_of(items: list[Item], instructions: str = "") -> list[dict[str, Any]]:
    """Items as chat templates take them. A call belongs to the answer before it."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    for item in items:
        if item.kind == "function_call":
            if item.status == "completed":
                _add_call(messages, item)
        elif item.kind == "function_call_output":
            messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
        elif text := item.text:
            messages.append({"role": item.role, "content": text})
    return messages


def _add_call(messages: list[dict[str, Any]], item: Item) -> None:
    if not messages or messages[-1]["role"] != "assistant":
        messages.append({"role": "assistant", "content": ""})
    function = {"name": item.name, "arguments": json.loads(item.arguments or "{}")}
    call = {"id": item.call_id, "type": "function", "function": function}
    messages[-1] = {**messages[-1], "tool_calls": [*messages[-1].get("tool_calls", []), call]}
