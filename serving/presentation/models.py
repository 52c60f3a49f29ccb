"""GET /v1/models and /v1/models/<id>: what is served, and where it came from."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from serving.application.ports import ServedModel
from serving.presentation.state import ServerState


def list_models(state: ServerState) -> Response:
    """All models, the default one first."""
    return jsonify({"object": "list", "data": [model_json(model) for model in state.catalog.all()]})


def show_model(state: ServerState, name: str) -> Response:
    """One model by name, version or alias."""
    return jsonify(model_json(state.catalog.get(name)))


def model_json(model: ServedModel) -> dict[str, Any]:
    """OpenAI's fields, and the registry's: version, aliases, lineage from this version back to its roots."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "lifecycle",
        "version": model.version,
        "aliases": list(model.aliases),
        "lineage": list(model.lineage),
        "parent": model.parent,
        "capabilities": sorted(model.sees | ({"audio"} if model.speech else set())),
        "context_length": model.tokenizer.context_length,
    }
