"""The server's log: warnings as text, or everything as JSON lines, one of them for every request when it is over.

A request's line has its `request_id` (the client's X-Request-Id, or one made here, which the answer brings back) and
`answer`, the id under which the engine knows it: `chatcmpl-...`, with `-0`, `-1`, ... for its choices.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from flask import Flask, Response, g, request

from serving.application.generation import Generation
from serving.application.timing import HttpTiming

REQUEST_ID_HEADER = "X-Request-Id"
ACCEPTABLE = re.compile(r"[\x21-\x7e]{1,128}")  # what a client may call its request
FORMATS = ("text", "json")

log = logging.getLogger("serving.requests")


def timing(
    generation: Generation, fields: dict[str, Any], began: float, traceparent: str | None, streamed: bool
) -> HttpTiming:
    """A request that has ended just now."""
    return HttpTiming(
        name=f"{fields['method']} {fields['path']}",
        began=began,
        ended=time.monotonic(),
        status=fields["status"],
        request_id=fields["request_id"],
        traceparent=traceparent,
        streamed=streamed,
        answers=tuple(f"{generation.id}-{choice.index}" for choice in generation.choices),
        version=generation.model.version,
    )


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what the record brings as `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def configure_logs(kind: str) -> None:
    """For the whole process, on stderr: "text", or "json" from level INFO on."""
    if kind == "text":
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("serving", "lifecycle"):
        logging.getLogger(name).setLevel(logging.INFO)


def register_request_log(app: Flask, trace: Callable[[HttpTiming], None] | None = None) -> None:
    """Name every request; log and trace it at its end: for a stream, when the last byte is written or its client has left."""

    @app.before_request
    def begin() -> None:
        asked = request.headers.get(REQUEST_ID_HEADER, "")
        g.request_id = asked if ACCEPTABLE.fullmatch(asked) else uuid.uuid4().hex
        g.began = time.monotonic()

    @app.after_request
    def end(response: Response) -> Response:
        if "request_id" not in g:
            return response
        response.headers[REQUEST_ID_HEADER] = g.request_id
        if trace is None and not log.isEnabledFor(logging.INFO):
            return response
        generation, began = g.get("generation"), g.began
        traceparent, streamed = request.headers.get("traceparent"), response.is_streamed
        fields = {
            "request_id": g.request_id,
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
            "tenant": g.caller.tenant if g.get("caller") and g.caller.named else None,
        }

        def tell() -> None:
            if generation is not None:
                fields["answer"], fields["version"] = generation.id, generation.model.version
                fields["prompt_tokens"] = generation.usage.prompt_tokens
                fields["completion_tokens"] = generation.usage.completion_tokens
            fields["seconds"] = round(time.monotonic() - began, 4)
            if trace is not None and generation is not None:
                trace(timing(generation, fields, began, traceparent, streamed))
            log.info("%s %s %s", fields["method"], fields["path"], fields["status"], extra={"fields": fields})

        if response.is_streamed:
            response.call_on_close(tell)
        else:
            tell()
        return response
