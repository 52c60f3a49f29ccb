"""For whoever runs the server: health, readiness, metrics; and the numbers behind the chat page's engine strip."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from serving.application.ports import ServedModel
from serving.presentation.canary_metrics import canary_lines
from serving.presentation.metrics import CONTENT_TYPE
from serving.presentation.state import ServerState


def operations_blueprint(state: ServerState) -> Blueprint:
    """Routes that need no key."""
    routes = Blueprint("operations", __name__)

    @routes.get("/health")
    def health() -> tuple[Response, int]:
        """200 while every engine's loop is alive and makes progress: restart the process when it is not."""
        sick = unhealthy(state)
        body = {"status": "unhealthy", "engines": sick} if sick else {"status": "ok"}
        return jsonify(body), 503 if sick else 200

    @routes.get("/readyz")
    def ready() -> tuple[Response, int]:
        """200 while new requests are welcome and would be answered: a load balancer looks here."""
        if state.draining.is_set():
            return jsonify(status="draining"), 503
        if sick := unhealthy(state):
            return jsonify(status="unhealthy", engines=sick), 503
        return jsonify(status="ready"), 200

    @routes.get("/metrics")
    def metrics() -> Response:
        models = [*state.catalog.engines(), *state.catalog.retiring()]
        page = state.metrics.render(models)
        page += "".join(f"{line}\n" for line in state.voice_metrics.lines())
        if state.canary is not None:
            page += "".join(f"{line}\n" for line in canary_lines(state.canary, models))
        if state.is_admin(request):  # who the tenants are is nobody else's business
            page += "".join(f"{line}\n" for line in state.tenants.lines())
        return Response(page, content_type=CONTENT_TYPE)

    @routes.get("/stats")
    def stats() -> Response:
        return jsonify({"models": [stats_json(model) for model in (*state.catalog.engines(), *state.catalog.retiring())]})

    return routes


def unhealthy(state: ServerState) -> list[str]:
    """Models whose engine is dead or makes no progress."""
    return [model.name for model in state.catalog.engines() if not model.engine.healthy()]


def stats_json(model: ServedModel) -> dict[str, Any]:
    """A snapshot of one engine; counters only grow."""
    stats = model.engine.stats()
    return {
        "model": model.name,
        "version": model.version,
        "policy": stats.policy,
        "running": stats.running,
        "waiting": stats.waiting,
        "kv_usage": stats.kv_used / stats.kv_total if stats.kv_total else 0.0,
        "kv_cached": stats.kv_cached / stats.kv_total if stats.kv_total else 0.0,
        "generated_tokens": stats.generated_tokens,
        "prompt_tokens": stats.prompt_tokens,
        "uptime": stats.uptime,
    }
