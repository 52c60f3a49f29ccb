"""One response of /v1/responses while it grows, the events that tell of it, and the shelf where finished ones wait."""

from __future__ import annotations

import json
import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from serving.application.deltas import ChoiceFinished, Delta, ScoredToken, TextDelta, ThoughtDelta, ToolCallDelta
from serving.application.generation import Generation
from serving.application.media import MediaSource
from serving.domain.errors import InvalidRequest, QueueFull, ServingError
from serving.presentation.chat import logprobs_json
from serving.presentation.schemas.base import Wire
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.streaming import dump

MOST_RESPONSES = 1024
CONTINUED = "previous_response_id"
SLACK = 3
"""Times that much more may be kept while it is being answered."""
MOST_CHARACTERS = 2**25
"""Of stored inputs, all together."""


class ResponseRecord:
    """Grows by deltas and answers with events; one thread writes it, others may read it.

    In the words of `streaming.event_stream` it is the writer of the stream's chunks: `take`, `chunk`, `end`, `failed`.
    """

    def __init__(self, asked: ResponseRequest, generation: Generation, previous: ResponseRecord | None) -> None:
        self.id = f"resp_{generation.id.rpartition('-')[2]}"
        self.created, self.model, self.version = generation.created, generation.model.name, generation.model.version
        self.generation: Generation | None = generation
        """None when it is over: a response that is kept keeps no model in memory."""
        self._usage = generation.usage
        self.status = "in_progress"
        self.output: list[dict[str, Any]] = []
        self.cancelled = False
        self.characters = len(asked.model_dump_json(exclude_none=True)) + (previous.characters if previous else 0)
        """Of what was asked, of all that went before, which is kept with it, and in the end of the answer."""
        self._asked = asked
        self._previous = previous
        self._error: dict[str, str] | None = None
        self._incomplete: dict[str, str] | None = None
        self._message: dict[str, Any] | None = None  # the item that text goes to
        self._thought: dict[str, Any] | None = None  # the item that thinking goes to
        self._scores: list[ScoredToken] = []
        self._sequence = 0

    @property
    def conversation(self) -> list[dict[str, Any]]:
        """All messages up to the answer, as chat templates take them; instructions are of one response only."""
        return [message for one in self._links() for message in (*one._asked.messages(), *one._answer())]

    @property
    def sources(self) -> list[MediaSource]:
        """What these messages show; addresses are asked again."""
        return [replace(source, param=CONTINUED) for one in self._links() for source in one._asked.sources()]

    def _links(self) -> list[ResponseRecord]:
        """The responses of the conversation, the first one first."""
        links: list[ResponseRecord] = []
        link: ResponseRecord | None = self
        while link is not None:
            links.append(link)
            link = link._previous
        return links[::-1]

    def json(self) -> dict[str, Any]:
        """The response object as it is now."""
        generation = self.generation
        asked, usage = self._asked, self._usage if generation is None else generation.usage
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": self.status,
            "background": asked.background,
            "error": self._error,
            "incomplete_details": self._incomplete,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self.model,
            "output": list(self.output),
            "parallel_tool_calls": asked.parallel_tool_calls,
            "previous_response_id": asked.previous_response_id,
            "store": asked.store,
            "temperature": asked.temperature,
            "text": {"format": _told(asked.text and asked.text.format) or {"type": "text"}},
            "tool_choice": _told(asked.tool_choice) or "auto",
            "tools": [{"strict": True, **_told(tool)} for tool in asked.tools or ()],
            "top_p": asked.top_p,
            "truncation": "disabled",
            "user": asked.user,
            "usage": None
            if self.status == "in_progress"
            else {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": usage.thought_tokens},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }

    def opening(self) -> list[dict[str, Any]]:
        """The first events of a stream."""
        return [self._event(f"response.{kind}", response=self.json()) for kind in ("created", "in_progress")]

    def take(self, delta: Delta) -> list[dict[str, Any]]:
        """Grow by a delta; what to tell about it."""
        if isinstance(delta, ThoughtDelta):
            return list(self._think(delta))
        if isinstance(delta, TextDelta):
            return [*self._close_thought(), *self._text(delta)]
        if isinstance(delta, ToolCallDelta):
            return [*self._close_thought(), *self._close_message(), *self._call(delta)]
        if isinstance(delta, ChoiceFinished):
            ended = "incomplete" if delta.reason == "length" and not self.cancelled else "completed"
            opened = () if self.output else self._open_message()
            events = [*self._close_thought(ended), *opened, *self._close_message(ended)]
            self._let_go()
            if self.cancelled:  # and the engine was done a moment earlier
                self.status = "cancelled"
                return [*events, self._event("response.failed", response=self.json())]
            if delta.reason == "length":
                self.status, self._incomplete = "incomplete", {"reason": "max_output_tokens"}
                if self.output and self.output[-1]["type"] in ("message", "reasoning"):
                    self.output[-1]["status"] = "incomplete"
            else:
                self.status = "completed"
            return [*events, self._event(f"response.{self.status}", response=self.json())]
        return []

    def fail(self, error: ServingError) -> None:
        """The end of a response that did not come to its own."""
        self._close()
        self._let_go()
        if self.cancelled:
            self.status = "cancelled"
        else:
            self.status, self._error = "failed", {"code": error.code or "server_error", "message": error.message}

    def abandon(self) -> None:
        """Whoever waited for it has left."""
        if self.status == "in_progress":
            if self.generation is not None:
                self.generation.cancel()
            self._close()
            self._let_go()
            self.status = "cancelled"

    def cancel(self) -> None:
        """Stop computing; the status changes when the engine has let go."""
        self.cancelled = True
        if (generation := self.generation) is not None:
            generation.cancel()

    def chunk(self, event: dict[str, Any]) -> str:
        """An event of a stream."""
        return f"event: {event['type']}\ndata: {dump(event)}\n\n"

    def end(self) -> str:
        """Nothing: the last event says that it is the last."""
        return ""

    def failed(self, error: ServingError) -> str:
        """The last event of a stream that broke."""
        self.fail(error)
        return self.chunk(self._event("response.failed", response=self.json()))

    def _answer(self) -> Iterator[dict[str, Any]]:
        text = "".join(item["content"][0]["text"] for item in self.output if item["type"] == "message")
        calls = [item for item in self.output if item["type"] == "function_call"]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thought := "".join(item["content"][0]["text"] for item in self.output if item["type"] == "reasoning"):
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = [
                {
                    "id": call["call_id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": json.loads(call["arguments"])},
                }
                for call in calls
            ]
        yield message

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        self._sequence += 1
        return {"type": kind, "sequence_number": self._sequence - 1, **fields}

    def _open_message(self) -> Iterator[dict[str, Any]]:
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        self._message = _item("msg", type="message", role="assistant", status="in_progress", content=[])
        self.output.append(self._message)
        yield self._event("response.output_item.added", output_index=self._last, item=_copy(self._message))
        self._message["content"] = [part]
        yield self._event("response.content_part.added", **self._place(self._message), part=dict(part))

    def _think(self, delta: ThoughtDelta) -> Iterator[dict[str, Any]]:
        if not delta.text:
            return  # likelihoods of a marker
        if self._thought is None:
            self._thought = _item("rs", type="reasoning", summary=[], content=[], status="in_progress")
            self.output.append(self._thought)
            yield self._event("response.output_item.added", output_index=self._last, item=_copy(self._thought))
            part = {"type": "reasoning_text", "text": ""}
            self._thought["content"] = [part]
            yield self._event("response.content_part.added", **self._place(self._thought), part=dict(part))
        self._thought["content"][0]["text"] += delta.text
        yield self._event("response.reasoning_text.delta", **self._place(self._thought), delta=delta.text)

    def _close_thought(self, status: str = "completed") -> Iterator[dict[str, Any]]:
        if self._thought is None:
            return
        thought, self._thought = self._thought, None
        part = thought["content"][0]
        thought["status"] = status
        yield self._event("response.reasoning_text.done", **self._place(thought), text=part["text"])
        yield self._event("response.content_part.done", **self._place(thought), part=dict(part))
        yield self._event("response.output_item.done", output_index=self._last, item=_copy(thought))

    def _let_go(self) -> None:
        """Of what computed it: an engine with its memory."""
        if self.generation is not None:
            self._usage, self.generation = self.generation.usage, None
            self.characters += len(dump(self.output))

    def _close(self) -> None:
        """Nothing follows, and nobody is told."""
        list(self._close_thought())
        list(self._close_message())

    def _text(self, delta: TextDelta) -> Iterator[dict[str, Any]]:
        if self._message is None and not delta.text:
            return  # likelihoods of a call's tokens, at the end
        if self._message is None:
            yield from self._open_message()
        part = self._message["content"][0]
        part["text"] += delta.text
        self._scores += delta.logprobs
        yield self._event(
            "response.output_text.delta", **self._place(self._message), delta=delta.text, logprobs=_logprobs(delta.logprobs)
        )

    def _close_message(self, status: str = "completed") -> Iterator[dict[str, Any]]:
        if self._message is None:
            return
        message, place = self._message, self._place(self._message)
        part = message["content"][0]
        part["logprobs"] = _logprobs(self._scores)
        message["status"] = status
        yield self._event("response.output_text.done", **place, text=part["text"], logprobs=part["logprobs"])
        yield self._event("response.content_part.done", **place, part=dict(part))
        yield self._event("response.output_item.done", output_index=self._last, item=_copy(message))
        self._message, self._scores = None, []

    def _call(self, delta: ToolCallDelta) -> Iterator[dict[str, Any]]:
        item = _item(
            "fc", type="function_call", call_id=delta.id, name=delta.name, arguments="", status="in_progress"
        )
        self.output.append(item)
        place = {"item_id": item["id"], "output_index": self._last}
        yield self._event("response.output_item.added", output_index=self._last, item=_copy(item))
        item["arguments"], item["status"] = delta.arguments, "completed"
        yield self._event("response.function_call_arguments.delta", **place, delta=delta.arguments)
        yield self._event(
            "response.function_call_arguments.done", **place, name=delta.name, arguments=delta.arguments
        )
        yield self._event("response.output_item.done", output_index=self._last, item=_copy(item))

    @property
    def _last(self) -> int:
        return len(self.output) - 1

    def _place(self, item: dict[str, Any]) -> dict[str, Any]:
        return {"item_id": item["id"], "output_index": self._last, "content_index": 0}


class ResponseShelf:
    """Stored responses of all tenants, the latest ones. Safe from any thread."""

    def __init__(self, most: int = MOST_RESPONSES, characters: int = MOST_CHARACTERS) -> None:
        self._lock = threading.Lock()
        self._most, self._characters = most, characters
        self._records: OrderedDict[str, tuple[str, ResponseRecord]] = OrderedDict()

    def put(self, record: ResponseRecord, tenant: str) -> None:
        """Keep it, and let the oldest go; those still growing are not let go. Raises `QueueFull` when they fill it by far."""
        with self._lock:
            self._records[record.id] = (tenant, record)
            excess = len(self._records) - self._most
            size = sum(one.characters for _, one in self._records.values()) - self._characters
            for name, (_, one) in list(self._records.items()):
                if excess <= 0 and size <= 0:
                    return
                if one.status != "in_progress":
                    del self._records[name]
                    excess, size = excess - 1, size - one.characters
            if size > SLACK * self._characters:
                del self._records[record.id]
                raise QueueFull("too much that is to be kept is being answered: send the request again later")

    def get(self, response_id: str, tenant: str, param: str = "response_id") -> ResponseRecord:
        """Raises `ResponseNotFound`, also for another tenant's."""
        with self._lock:
            owner, record = self._records.get(response_id, (None, None))
        if record is None or owner != tenant:
            raise ResponseNotFound(f'no response "{response_id[:100]}" is stored here (any more)', param=param)
        return record

    def remove(self, response_id: str, tenant: str) -> ResponseRecord:
        """Forget it. Raises `ResponseNotFound`."""
        record = self.get(response_id, tenant)
        with self._lock:
            self._records.pop(response_id, None)
        return record


class ResponseNotFound(InvalidRequest):
    status = 404
    code = "response_not_found"


def _item(prefix: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"{prefix}_{uuid.uuid4().hex}", **fields}


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """As it is now: the record goes on changing."""
    copied = dict(item)
    if "content" in item:
        copied["content"] = [dict(part) for part in item["content"]]
    return copied


def _logprobs(scores: Sequence[ScoredToken]) -> list[dict[str, Any]]:
    written = logprobs_json(scores)
    return written["content"] if written else []


def _told(value: Any) -> Any:
    """A part of the request as it came."""
    return value.model_dump(exclude_none=True, by_alias=True) if isinstance(value, Wire) else value
