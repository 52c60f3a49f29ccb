"""From what a request shows to what its model sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flask import Request

from serving.application.media import MediaSource
from serving.application.waiting import place_of
from serving.domain.errors import InvalidRequest, VisionMissing
from serving.domain.media import Media
from serving.presentation.state import ServerState

PATIENCE = 10.0
"""Seconds that a large request waits for others."""
NAMES = {"image": "a picture", "video": "a clip"}


def look(state: ServerState, model_name: str | None, sources: Sequence[MediaSource]) -> tuple[Media, ...]:
    """Decoded media, in order. Raises `InvalidRequest` for a model that does not see them, and what `OpenMedia` raises."""
    if not sources:
        return ()
    model = state.model(model_name)
    for source in sources:
        if source.kind not in model.sees:
            raise InvalidRequest(
                f'"{source.param}" is {NAMES[source.kind]}, and the model "{model.name}" does not see any: '
                "leave it out, or serve one of stage see",
                param=source.param,
            )
    if state.media is None:
        raise VisionMissing("this server was started without anything that decodes pictures")
    return state.media(sources)


@contextmanager
def large_body(state: ServerState, request: Request) -> Iterator[None]:
    """Within it the request's body may be as long as one with pictures or sound; only so many such bodies are held at a time.

    Raises `QueueFull` when that many are, for long.
    """
    most, length = state.config.max_body_bytes, request.content_length
    if (state.media is None and state.voice is None) or (length is not None and length <= most):
        yield
        return
    with place_of(state.large_bodies, PATIENCE, "too many large requests are being read: send the request again later"):
        request.max_content_length = most + state.config.media_body_bytes
        yield
