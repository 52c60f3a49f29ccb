"""For whoever runs the server, with the API key when there is one: see and change the batching policy while it serves."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from serving.application.ports import ServedModel
from serving.domain.policies import policy_names
from serving.presentation.body import read_json
from serving.presentation.schemas.admin import PolicyRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState


def admin_blueprint(state: ServerState) -> Blueprint:
    """Routes under /admin."""
    routes = Blueprint("admin", __name__, url_prefix="/admin")

    @routes.get("/policy")
    def show_policy() -> Response:
        """Which policies there are, and which one each engine runs."""
        state.tenant(request)
        return jsonify(policies_json(state.catalog.all()))

    @routes.post("/policy")
    def change_policy() -> Response:
        """{"policy": NAME, "model": optional}: takes effect with the next step; requests in flight go on."""
        state.tenant(request)
        asked = read(PolicyRequest, read_json(request))
        models = state.catalog.all() if asked.model is None else [state.catalog.get(asked.model)]
        for one in models:
            one.engine.swap_policy(asked.policy)
        return jsonify(policies_json(models))

    return routes


def policies_json(models: list[ServedModel]) -> dict[str, Any]:
    """The names to choose from, and the current choice of each model."""
    return {
        "policies": policy_names(),
        "models": [{"model": model.name, "policy": model.engine.stats().policy} for model in models],
    }
