"""The chat page: three static files and the examples it offers."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, jsonify, send_from_directory

from serving.presentation.state import ServerState

STATIC = Path(__file__).parent / "static"
POLICY = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def page_blueprint(state: ServerState) -> Blueprint:
    """Routes of the page; it talks to the same API as every other client."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def page() -> Response:
        response = send_from_directory(STATIC, "chat.html")
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @routes.get("/static/<path:name>")
    def static(name: str) -> Response:
        return send_from_directory(STATIC, name)

    @routes.get("/examples")
    def examples() -> Response:
        return jsonify(examples=list(state.config.examples), needs_key=state.needs_key)

    return routes
