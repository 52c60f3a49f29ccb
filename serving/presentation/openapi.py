"""GET /openapi.json: every route, written from the models that read its requests."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic.json_schema import models_json_schema

from serving.presentation.operations_list import OPERATIONS, Operation
from serving.presentation.schemas import answers

TITLE = "lifecycle serve"
VERSION = "1"
EVENT = {
    "type": "object",
    "description": 'One of the server-sent events that come with "stream": true; `data` is JSON, or [DONE].',
    "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
    "required": ["data"],
}
WORDS = {
    400: "The request can never succeed as written; `param` names the field",
    401: "No API key, or a wrong one",
    403: "This needs the key of an admin, or an admin has ended the request",
    404: "There is no such thing here",
    409: "Not in the state that the server is in",
    413: "The request body is too large, or a picture, clip or sound in it",
    415: "The request body is not declared as JSON (or as a form), or a picture, clip or sound in it is of no format that is read",
    429: "Too many requests wait, or a tenant is over its limits; `Retry-After` says when to come back",
    501: "It needs what is not installed here, is a part of OpenAI's API that this server does not have, or asks where a model looks "
    "of which that cannot be told",
    503: "Not now: the server is closing down, or not well",
}


def openapi_blueprint() -> Blueprint:
    """The document is written once."""
    routes = Blueprint("openapi", __name__)
    written: list[dict[str, Any]] = []

    @routes.get("/openapi.json")
    def openapi() -> Response:
        if not written:
            written.append(document())
        return jsonify(written[0])

    return routes


def document(operations: tuple[Operation, ...] = OPERATIONS) -> dict[str, Any]:
    """OpenAPI 3.1."""
    requests = {one.request: None for one in operations if one.request}
    replies = {one.answer: None for one in operations if one.answer} | {answers.ErrorAnswer: None}
    models = [(model, "validation") for model in requests] + [(model, "serialization") for model in replies]
    places, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    for one in operations:
        if one.form:
            _as_form(schemas["$defs"][one.request.__name__])
    paths: dict[str, Any] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = _operation(one, places)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": VERSION, "description": "OpenAI's API over models of a registry."},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _as_form(schema: dict[str, Any]) -> None:
    """As forms are written: with a file, and brackets after the name of what may come several times."""
    fields = schema["properties"]
    lists = [name for name, field in fields.items() if any("items" in kind for kind in (field, *field.get("anyOf", ())))]
    schema["properties"] = {f"{name}[]" if name in lists else name: field for name, field in fields.items()}
    schema["properties"]["file"] = {"type": "string", "contentMediaType": "application/octet-stream"}
    schema["required"] = [*schema.get("required", ()), "file"]


def _operation(one: Operation, places: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {one.media: {"schema": {"type": "string"}}}
    if one.answer:
        content = {"application/json": {"schema": places[one.answer, "serialization"]}}
    content |= {kind: {"schema": {"type": "string"}} for kind in one.also}
    if one.streams:
        content["text/event-stream"] = {"schema": EVENT}
    errors = set(one.errors)
    if one.key:
        errors.add(401)
    if one.admin:
        errors.add(403)
    if one.request:
        errors |= {400, 413, 415} if one.admin else {400, 413, 415, 429}
    if one.query:
        errors.add(400)
    if "{" in one.path:
        errors.add(404)
    refused = {"application/json": {"schema": places[answers.ErrorAnswer, "serialization"]}}
    operation: dict[str, Any] = {
        "summary": one.summary,
        "operationId": re.sub(r"\W+", "_", f"{one.method}_{one.path}").strip("_"),
        "responses": {
            str(one.status): {"description": "Done", "content": content},
            **{str(status): {"description": WORDS[status], "content": refused} for status in sorted(errors)},
        },
    }
    if one.answer is answers.Health:
        operation["responses"]["503"] = {"description": WORDS[503], "content": content}
    if one.key:
        operation["security"] = [{"key": []}, {}]
    if one.request:
        kind = "multipart/form-data" if one.form else "application/json"
        content = {kind: {"schema": places[one.request, "validation"]}}
        operation["requestBody"] = {"required": True, "content": content}
    text = {"type": "string", "minLength": 1}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": text} for name in re.findall(r"{(\w+)}", one.path)
    ]
    parameters += [{"name": name, "in": "query", "required": name in one.required, "schema": text} for name in one.query]
    if parameters:
        operation["parameters"] = parameters
    return operation
