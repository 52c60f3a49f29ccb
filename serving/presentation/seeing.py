"""From what a request shows to what its model sees."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Request

from serving.application.media import MediaSource
from serving.domain.errors import InvalidRequest, VisionMissing
from serving.domain.media import Media
from serving.presentation.state import ServerState

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


def allow_media(state: ServerState, request: Request) -> Request:
    """The same request, whose body may be as long as one with pictures."""
    if state.media is not None:
        request.max_content_length = state.config.max_body_bytes + state.config.media_body_bytes
    return request
