"""Follows a generation on behalf of a client that may leave at any time, and writes it as server-sent events.

Rules that clients check: one finish chunk per choice; with `include_usage` every chunk has `"usage": null` and one
last chunk has the usage and no choices; a failure after the status was sent is `data: {"error": ...}`; the stream
ends with `data: [DONE]`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from flask import Response

from serving.application.deltas import ChoiceFinished, Delta, Usage
from serving.application.generation import Generation
from serving.domain.errors import ServingError
from serving.presentation.errors import error_body, failure
from serving.presentation.metrics import Meter
from serving.presentation.peer import Peer
from serving.presentation.state import HttpConfig

PING = b": ping\n\n"
DONE = "data: [DONE]\n\n"
ToChoices = Callable[[Delta], Sequence[dict[str, Any]]]

log = logging.getLogger(__name__)


class ClientGone(Exception):
    """The client hung up; its requests have been cancelled."""


def follow(generation: Generation, peer: Peer, meter: Meter, tick: float) -> Iterator[list[Delta]]:
    """Updates, and an empty list every `tick` seconds without any. Raises `ClientGone`, streaming or not."""
    probe_at = 0.0
    updates = generation.updates(tick)
    try:
        for deltas in updates:
            meter.observe(deltas)
            if (now := time.monotonic()) >= probe_at:
                if peer.gone():
                    raise ClientGone
                probe_at = now + tick
            yield deltas
    finally:
        updates.close()
        meter.close()


class Chunks:
    """Writes the chunks of one stream; the part that never changes is encoded once."""

    def __init__(self, generation: Generation, kind: str, *, include_usage: bool) -> None:
        self._generation = generation
        self._include_usage = include_usage
        constant = {**envelope(generation, kind), "choices": []}
        self._head = "data: " + dump(constant)[: -len("]}")]
        self._tail = '],"usage":null}\n\n' if include_usage else "]}\n\n"

    def chunk(self, choice: dict[str, Any]) -> str:
        """One event with one choice."""
        return f"{self._head}{dump(choice)}{self._tail}"

    def end(self) -> str:
        """The usage, if asked for, and the end mark."""
        if not self._include_usage:
            return DONE
        return f'{self._head}],"usage":{dump(usage_json(self._generation.usage))}}}\n\n{DONE}'

    def failed(self, error: ServingError) -> str:
        """An error after the status line, and the end mark."""
        return f"data: {dump(error_body(error))}\n\n{DONE}"


def event_stream(
    generation: Generation,
    peer: Peer,
    meter: Meter,
    config: HttpConfig,
    chunks: Chunks,
    opening: Sequence[dict[str, Any]],
    to_choices: ToChoices,
) -> Iterator[bytes]:
    """The body of a streaming response. Everything that is there at once leaves in one write."""

    def written() -> Iterator[str]:
        yield "".join(map(chunks.chunk, opening))
        with closing(follow(generation, peer, meter, config.tick_seconds)) as updates:
            for deltas in updates:
                raise_failure(deltas)
                yield "".join(chunks.chunk(choice) for delta in deltas for choice in to_choices(delta))

    return body_of(written(), chunks, config.ping_seconds)


def body_of(written: Iterator[str], chunks: Chunks, ping_seconds: float) -> Iterator[bytes]:
    """What is written, and how it ends, be it with an error; a comment when nothing was written for `ping_seconds`.

    `written` yields empty strings while there is nothing to write.
    """
    last = time.monotonic()
    try:
        with closing(written):
            for text in written:
                now = time.monotonic()
                if text or now - last >= ping_seconds:
                    last = now
                    yield text.encode() or PING
        yield chunks.end().encode()
    except ClientGone:
        return
    except Exception as error:
        yield chunks.failed(told(error)).encode()


def told(error: Exception) -> ServingError:
    """What a client hears of an exception that is being handled: what nobody expected is logged."""
    if isinstance(error, ServingError):
        return error
    log.exception("a stream broke")
    return ServingError("the server made a mistake; its log has the details")


def events_response(events: Iterator[bytes]) -> Response:
    """Server-sent events, which nothing on the way may keep back."""
    response = Response(events, content_type="text/event-stream; charset=utf-8")
    response.headers["Cache-Control"] = "no-cache"
    response.headers["X-Accel-Buffering"] = "no"
    return response


def stream_response(generation: Generation, meter: Meter, events: Iterator[bytes]) -> Response:
    """The response around an event stream; however it ends, the generation ends too, and is counted."""
    response = events_response(events)
    # A generator that was never started skips its `finally` when it is closed.
    response.call_on_close(generation.cancel)
    response.call_on_close(meter.close)
    return response


def collect(generation: Generation, peer: Peer, meter: Meter, config: HttpConfig) -> list[Delta]:
    """All deltas of an answer that is sent in one piece. Raises `ClientGone`, or the error of a choice that failed."""
    everything: list[Delta] = []
    with closing(follow(generation, peer, meter, config.tick_seconds)) as updates:
        for deltas in updates:
            raise_failure(deltas)
            everything += deltas
    return everything


def raise_failure(deltas: Sequence[Delta]) -> None:
    """Raises the error behind a choice that ended badly."""
    for delta in deltas:
        if isinstance(delta, ChoiceFinished) and (error := failure(delta)):
            raise error


def envelope(generation: Generation, kind: str) -> dict[str, Any]:
    """The fields that every answer and every chunk begins with."""
    return {
        "id": generation.id,
        "object": kind,
        "created": generation.created,
        "model": generation.model.name,
        "system_fingerprint": generation.model.version,
    }


def usage_json(usage: Usage) -> dict[str, Any]:
    """Usage in OpenAI's words."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.thought_tokens},
    }


def dump(value: Any) -> str:
    """Compact JSON, ASCII only: line breaks are escaped, so one event is one line."""
    return json.dumps(value, separators=(",", ":"))
