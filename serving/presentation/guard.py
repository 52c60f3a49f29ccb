"""In front of every route: who is asking, may they, and are they within their limits.

A route is closed unless it is on the short list of open ones, so that nobody forgets to close a new one. What is for
admins needs an admin's key where there are keys. Any other POST counts against its tenant's limits, from here until its
last byte is written or its client has left; but whoever ends a request of their own needs no place for that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from urllib.parse import quote

from flask import Flask, Response, g, request

from serving.application.access import Caller
from serving.application.quota import Lease
from serving.domain.errors import RateLimited
from serving.domain.quota import Standing
from serving.presentation.state import ServerState

OPEN_BLUEPRINTS = ("operations", "page", "openapi")
ADMIN_BLUEPRINTS = ("admin", "model_admin", "engine", "registry")
"""What tells of all tenants, or changes what all are served."""
FREE_ENDPOINTS = ("responses.cancel",)
VERSION_HEADER = "x-model-version"
"""Of an answer: the registry version that gave it, whatever name it was asked by."""


def register_guard(app: Flask, state: ServerState) -> None:
    """Check every request before its view, and see every response off."""

    @app.before_request
    def let_in() -> None:
        if request.endpoint is None or request.blueprint in OPEN_BLUEPRINTS or request.method == "OPTIONS":
            return
        caller = g.caller = state.identify(request)
        if request.blueprint in ADMIN_BLUEPRINTS:
            state.admin(request)
        elif request.method == "POST" and request.endpoint not in FREE_ENDPOINTS:
            try:
                g.lease = state.limiter.admit(caller.tenant, caller.limits)
            except RateLimited as error:
                g.standings = error.standings
                raise
            g.standings = g.lease.standings
            g.end = functools.partial(end, g.lease, caller)

    @app.after_request
    def see_off(response: Response) -> Response:
        response.headers.update(rate_limit_headers(g.get("standings", {})))
        if "answering" in g:
            response.headers[VERSION_HEADER] = quote(g.answering, safe="/@#")
        if (caller := g.get("caller")) is not None and caller.named:
            state.tenants.answered(caller.tenant, response.status_code)
        ending = outlive()
        if response.is_streamed:
            # However it ends: its generation has been given up by then, so the tokens are final.
            response.call_on_close(ending)
        else:
            ending()
        return response

    @app.teardown_request
    def let_go(_: BaseException | None) -> None:
        outlive()()  # there may have been no response to see off

    def end(lease: Lease, caller: Caller) -> None:
        tokens = lease.release()
        if caller.named and tokens:
            state.tenants.used(caller.tenant, tokens)


def outlive() -> Callable[[], None]:
    """For a request that goes on after its response: its place is kept until the result is called, by whoever ends it."""
    return g.pop("end", lambda: None)


def rate_limit_headers(standings: dict[str, Standing]) -> dict[str, str]:
    """OpenAI's headers, for the limits that there are."""
    headers = {}
    for name, standing in standings.items():
        headers[f"x-ratelimit-limit-{name}"] = str(standing.limit)
        headers[f"x-ratelimit-remaining-{name}"] = str(standing.remaining)
        headers[f"x-ratelimit-reset-{name}"] = duration(standing.reset)
    return headers


def duration(seconds: float) -> str:
    """As OpenAI writes it: "120ms", "7.5s", "1m0s"."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
