"""The page: static files without a build step, and what it has to know before its first request."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, send_from_directory

from serving.presentation.state import ServerState

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; media-src data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def page_blueprint(state: ServerState) -> Blueprint:
    """Routes of the page; it talks to the same API as every other client."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def page() -> Response:
        response = send_from_directory(STATIC, "index.html")
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @routes.get("/static/<path:name>")
    def static(name: str) -> Response:
        response = send_from_directory(STATIC, name)
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    @routes.get("/examples")
    def examples() -> Response:
        return jsonify(
            examples=list(state.config.examples),
            needs_key=state.needs_key,
            registry=state.config.registry is not None,
            voice=state.voice is not None,
            feedback=any(rule.rule == "/v1/feedback" for rule in current_app.url_map.iter_rules()),
        )

    return routes
