"""What web pages may do with this server: its own page everything, others nothing unless their origin was named.

Without a key the server trusts whoever can reach it, and every page that a browser on this machine opens can. So then a
request with the Host of somebody else (DNS rebinding) or the Origin of somebody else (a form, a blind POST) is refused.
With a key there is nothing to abuse: browsers do not add it by themselves.
"""

from __future__ import annotations

from flask import Flask, Response, request

from serving.domain.errors import Forbidden
from serving.presentation.guard import VERSION_HEADER
from serving.presentation.hosts import is_own_page, names_this_machine
from serving.presentation.state import ServerState

PREFLIGHT_SECONDS = 600
EXPOSED = f"Retry-After, {VERSION_HEADER}, " + ", ".join(
    f"x-ratelimit-{what}-{name}" for name in ("requests", "tokens") for what in ("limit", "remaining", "reset")
)


def register_browsers(app: Flask, state: ServerState) -> None:
    """Cross-origin resource sharing for exactly `config.cors_origins`, and protection of a server without a key."""
    origins = frozenset(origin.lower() for origin in state.config.cors_origins)

    @app.before_request
    def check_page() -> Response | None:
        origin = request.headers.get("Origin")
        if not state.needs_key:
            refuse_strangers(request.headers.get("Host"), origin, origins)
        if origin and origin.lower() in origins and _is_preflight():
            return Response(status=204)
        return None

    @app.after_request
    def allow(response: Response) -> Response:
        if not origins:
            return response
        response.vary.add("Origin")
        origin = request.headers.get("Origin", "")
        if origin.lower() not in origins:
            return response
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if _is_preflight():
            wanted = request.headers.get("Access-Control-Request-Headers", "")
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, PATCH, DELETE"
            response.headers["Access-Control-Allow-Headers"] = wanted or "Authorization, Content-Type"
            response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response


def refuse_strangers(host: str | None, origin: str | None, origins: frozenset[str]) -> None:
    """Raises `Forbidden` unless the request came here by a name of this machine, from no page, ours or a named one."""
    if host is not None and not names_this_machine(host):
        raise Forbidden(
            "this server has no API key and answers only to names of this machine such as 127.0.0.1 and localhost: "
            "start it with --api-key KEY to reach it by another name"
        )
    if origin is not None and origin.lower() not in origins and not is_own_page(origin, host or ""):
        raise Forbidden("this server does not answer to pages of other origins: start it with --cors-origin ORIGIN")


def _is_preflight() -> bool:
    return request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
