"""Every error leaves as JSON in OpenAI's shape: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

import math
from typing import Any

from flask import Flask, Response, jsonify
from werkzeug.exceptions import HTTPException

from serving.application.deltas import ChoiceFinished
from serving.domain.errors import Aborted, Draining, GrammarTooComplex, ServingError


def error_body(error: ServingError) -> dict[str, Any]:
    """What the client reads."""
    return {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}


def error_response(error: ServingError) -> Response:
    """Status and body; 429 and 503 say when to come back."""
    response = jsonify(error_body(error))
    response.status_code = error.status
    if error.status in (429, 503):
        response.headers["Retry-After"] = str(math.ceil(getattr(error, "retry_after", 1.0)))
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def failure(finished: ChoiceFinished) -> ServingError | None:
    """The error behind a choice that ended badly, or None."""
    if finished.reason == "cancelled" and finished.error:
        return Aborted(finished.error)
    if finished.reason == "cancelled":
        return Draining("the server stopped before the answer was complete")
    if finished.error == GrammarTooComplex.code:
        return GrammarTooComplex()
    if finished.reason == "error":
        return ServingError(finished.error or "the answer could not be computed")
    return None


def register_errors(app: Flask) -> None:
    """Make every exception of a view a JSON error; unexpected ones are logged with their traceback."""

    @app.errorhandler(ServingError)
    def serving_error(error: ServingError) -> Response:
        return error_response(error)

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> Response:
        wrapped = ServingError(_http_message(error))
        wrapped.status = error.code or 500
        wrapped.type = "invalid_request_error" if wrapped.status < 500 else "server_error"
        response = error_response(wrapped)
        if error.code == 405:
            response.headers["Allow"] = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        app.logger.exception("unexpected error")
        return error_response(ServingError("the server made a mistake; its log has the details"))


def _http_message(error: HTTPException) -> str:
    words = {
        404: "there is nothing at this address: the API is under /v1, the chat page at /",
        405: "this address does not take this method",
        413: "the request body is too large",
    }
    return words.get(error.code or 500, error.description or error.name)
