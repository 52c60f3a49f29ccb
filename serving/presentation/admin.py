"""For whoever runs the server, with the API key when there is one: see and change the batching policy while it serves."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from serving.application.ports import ServedModel
from serving.domain.policies import policy_names
from serving.presentation.body import read_json
from serving.presentation.state import ServerState
from serving.presentation.validation import Fields


def admin_blueprint(state: ServerState) -> Blueprint:
    """Routes under /admin."""
    routes = Blueprint("admin", __name__, url_prefix="/admin")

    @routes.get("/policy")
    def show_policy() -> Response:
        """Which policies there are, and which one each engine runs."""
        state.tenant(request)
        return jsonify(policies_json(state.catalog.engines()))

    @routes.post("/policy")
    def change_policy() -> Response:
        """{"policy": NAME, "model": optional}: takes effect with the next step; requests in flight go on."""
        state.tenant(request)
        fields = Fields(read_json(request))
        name, model = fields.text("policy"), fields.text("model")
        fields.required("policy")
        fields.finish()
        models = state.catalog.engines() if model is None else [state.catalog.get(model)]
        for one in models:
            one.engine.swap_policy(name)
        return jsonify(policies_json(models))

    return routes


def policies_json(models: list[ServedModel]) -> dict[str, Any]:
    """The names to choose from, and the current choice of each model."""
    return {
        "policies": policy_names(),
        "models": [{"model": model.name, "policy": model.engine.stats().policy} for model in models],
    }
