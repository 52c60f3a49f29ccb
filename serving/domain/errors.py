"""Everything that can go wrong on purpose. `status` and `code` are what an HTTP client sees; the mapping lives outside."""

from __future__ import annotations


class ServingError(Exception):
    """Base of all: a message for people, an HTTP status, an OpenAI-style type and code, and the field to blame."""

    status = 500
    type = "server_error"
    code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or type(self).code


class InvalidRequest(ServingError):
    """The request can never succeed as written."""

    status = 400
    type = "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    """Prompt, or prompt plus `max_tokens`, does not fit the model or the KV pool."""

    code = "context_length_exceeded"


class GrammarTooComplex(InvalidRequest):
    """A grammar turned out to cost more than it may, some way into the answer."""

    code = "grammar_too_complex"

    def __init__(self) -> None:
        super().__init__("the grammar of this answer takes too much time or memory: make its repetitions or its choices fewer")


class Unauthorized(ServingError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class ModelNotFound(ServingError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class QueueFull(ServingError):
    """More requests wait than the queue limit allows. `retry_after` in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(ServingError):
    """The server finishes what it has and takes nothing new."""

    status = 503
    type = "service_unavailable"
    code = "draining"
