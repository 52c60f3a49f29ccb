"""For whoever runs the server: load and unload models and adapters, and name them, while it serves."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from serving.domain.errors import InvalidRequest
from serving.presentation.body import read_json
from serving.presentation.models import model_json
from serving.presentation.schemas.admin import AdapterRequest, AliasRequest, LoadRequest, SwapRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState


def model_admin_blueprint(state: ServerState) -> Blueprint:
    """Routes under /admin; the guard asks for an admin's key."""
    routes = Blueprint("model_admin", __name__, url_prefix="/admin")

    @routes.post("/models")
    def load() -> tuple[Response, int]:
        """Answers when the model is ready; other requests go on meanwhile."""
        body = read(LoadRequest, read_json(request))
        model = state.catalog.load(body.ref, adapters=body.adapters, kv_memory_mb=body.kv_memory_mb)
        return jsonify(model_json(model)), 201

    @routes.post("/swap")
    def swap() -> Response:
        """Answers when new requests go to the new version; those that run finish on the old one."""
        body = read(SwapRequest, read_json(request))
        return jsonify(model_json(state.catalog.swap(body.ref, body.model, kv_memory_mb=body.kv_memory_mb)))

    @routes.post("/adapters")
    def add_adapter() -> tuple[Response, int]:
        body = read(AdapterRequest, read_json(request))
        return jsonify(model_json(state.catalog.add_adapter(body.name, body.ref, body.base))), 201

    @routes.delete("/models/<path:name>")
    def unload(name: str) -> Response:
        """Answers when the last request has ended and the memory is free."""
        finished = state.catalog.unload(name, state.config.drain_seconds)
        return jsonify(id=name, object="model", deleted=True, all_finished=finished)

    @routes.delete("/adapters/<path:name>")
    def remove_adapter(name: str) -> Response:
        if state.catalog.get(name).adapter is None:
            raise InvalidRequest(f"{name} is no adapter: unload it with DELETE /admin/models/{name}", param="name")
        return unload(name)

    @routes.post("/aliases")
    def set_alias() -> Response:
        """Moves at once: the next request that names the alias is answered by the new model."""
        body = read(AliasRequest, read_json(request))
        return jsonify(model_json(state.catalog.set_alias(body.alias, body.model)))

    @routes.delete("/aliases/<path:alias>")
    def remove_alias(alias: str) -> Response:
        return jsonify(model_json(state.catalog.remove_alias(alias)))

    return routes
