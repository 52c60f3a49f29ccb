"""POST /v1/embeddings."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from flask import Response, g, jsonify, request

from serving.application.embedding import EmbedTexts
from serving.presentation.body import read_json
from serving.presentation.schemas.embeddings import EmbeddingRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState


def embeddings(state: ServerState) -> Response:
    """All vectors in one answer."""
    asked = read(EmbeddingRequest, read_json(request))
    model = state.model(asked.model)
    g.answering = model.version
    command = EmbedTexts(asked.input, asked.dimensions)
    texts = command.tokens(model)
    read_tokens = sum(map(len, texts))
    vectors = command.vectors(model, texts)
    state.charge(lambda: read_tokens)  # vectors that turn out to be of no use cost as much, a refusal to read costs nothing
    command.check_dimensions(model, vectors)
    write = packed if asked.encoding_format == "base64" else list
    data = [{"object": "embedding", "index": at, "embedding": write(one)} for at, one in enumerate(vectors)]
    usage = {"prompt_tokens": read_tokens, "total_tokens": read_tokens}
    return jsonify({"object": "list", "data": data, "model": model.name, "usage": usage})


def packed(vector: Sequence[float]) -> str:
    """Little-endian float32 as base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
