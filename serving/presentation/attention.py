"""POST /v1/chat/attention."""

from __future__ import annotations

from typing import Any

from flask import Response, g, jsonify, request

from serving.application.attention import Glance, LookedAt
from serving.presentation.body import read_json
from serving.presentation.hearing import hear
from serving.presentation.schemas.attention import AttentionRequest
from serving.presentation.schemas.translate import read
from serving.presentation.seeing import large_body, look
from serving.presentation.state import ServerState

DIGITS = 7
"""Of a weight, behind the point."""


def attention(state: ServerState) -> Response:
    """Computed on the thread of the request, beside the engine."""
    with large_body(state, request):
        asked, _ = hear(state, read(AttentionRequest, read_json(request)))
        command = asked.command(look(state, asked.model, asked.sources()))
    model = state.model(asked.model)
    g.answering = model.version
    prompt, answer = command.read(model)
    read_tokens = len(prompt.tokens) + len(answer)
    state.charge(lambda: read_tokens)
    pictures = command.pictures(model, prompt)
    layers, glances = command.glances(model, prompt, answer, pictures)
    return jsonify(
        {
            "object": "chat.attention",
            "model": model.name,
            "layers": layers,
            "pictures": [picture_json(one) for one in pictures],
            "tokens": [glance_json(one) for one in glances],
            "usage": {"prompt_tokens": read_tokens, "total_tokens": read_tokens},
        }
    )


def picture_json(picture: LookedAt) -> dict[str, Any]:
    """Where it is in the conversation, and where the model's tokens are in it."""
    grids = [
        {
            "rows": grid.rows,
            "columns": grid.columns,
            "patch_rows": grid.patch_rows,
            "patch_columns": grid.patch_columns,
            "box": [round(side, 4) for side in grid.box],
        }
        for grid in picture.grids
    ]
    where = {"part": picture.part, "frame": picture.frame, "time": round(picture.time, 3)}
    return {**where, "height": picture.height, "width": picture.width, "grids": grids, "thumbnail": picture.thumbnail}


def glance_json(glance: Glance) -> dict[str, Any]:
    """One token and its weights."""
    weights = [[[round(one, DIGITS) for one in grid] for grid in picture] for picture in glance.weights]
    return {"id": glance.token, "text": glance.text, "share": round(glance.share, DIGITS), "weights": weights}
