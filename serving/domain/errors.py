"""Everything that can go wrong on purpose. `status` and `code` are what an HTTP client sees; the mapping lives outside."""

from __future__ import annotations

from collections.abc import Mapping

from serving.domain.quota import Standing


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


class MediaTooLarge(InvalidRequest):
    """A picture, a clip or a sound is over a limit: bytes, pixels, seconds, or how many there are."""

    status = 413
    code = "media_too_large"


class UnsupportedMedia(InvalidRequest):
    """A picture, a clip or a sound is of a kind that is not read here."""

    status = 415
    code = "unsupported_media"


class VisionMissing(ServingError):
    """Nothing is installed that decodes pictures."""

    status = 501
    type = "not_implemented"
    code = "vision_missing"


class AttentionUndefined(ServingError):
    """Where this model looks in a picture cannot be told."""

    status = 501
    type = "not_implemented"
    code = "attention_undefined"


class NotSupported(ServingError):
    """A part of OpenAI's API that this server does not have."""

    status = 501
    type = "not_implemented"
    code = "not_supported"


class SpeechMissing(ServingError):
    """Nothing is installed, or fetched, that hears or speaks."""

    status = 501
    type = "not_implemented"
    code = "speech_missing"


class Unauthorized(ServingError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(ServingError):
    """Who is asking is known, and may not."""

    status = 403
    type = "permission_error"
    code = "forbidden"


class Aborted(ServingError):
    """Whoever runs the server ended the request. Not a status that clients answer by sending it again."""

    status = 403
    type = "request_aborted"
    code = "aborted"


class ModelNotFound(ServingError):
    status = 404
    type = "invalid_request_error"
    code = "model_not_found"


class Conflict(ServingError):
    """The request makes sense, but not in the state that the server is in."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class NoSuchRequest(ServingError):
    status = 404
    type = "invalid_request_error"
    code = "request_not_found"


class QueueFull(ServingError):
    """More requests wait than the queue limit allows. `retry_after` in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "queue_full"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(ServingError):
    """A tenant is over a limit of its own. `retry_after` in seconds; `standings` by name of the limit."""

    status = 429
    type = "rate_limit_error"

    def __init__(self, message: str, *, code: str, retry_after: float, standings: Mapping[str, Standing]) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after
        self.standings = standings


class Draining(ServingError):
    """The server finishes what it has and takes nothing new."""

    status = 503
    type = "service_unavailable"
    code = "draining"


class NoReplica(ServingError):
    """None of the engines of a model serves at the moment; others are being started."""

    status = 503
    type = "service_unavailable"
    code = "no_replica"


class FeedbackUnavailable(ServingError):
    """Feedback cannot be stored or read now: the disk is full, or another program holds the database."""

    status = 503
    type = "service_unavailable"
    code = "feedback_unavailable"
