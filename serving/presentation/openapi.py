"""GET /openapi.json: every route, written from the models that read its requests."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from serving.presentation.schemas import answers
from serving.presentation.schemas.admin import PolicyRequest
from serving.presentation.schemas.chat import ChatCompletionRequest
from serving.presentation.schemas.completion import CompletionRequest
from serving.presentation.schemas.embeddings import EmbeddingRequest
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.schemas.tokens import DetokenizeRequest, TokenizeRequest

TITLE = "lifecycle serve"
VERSION = "1"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answer` None: plain text. `streams`: with "stream": true it answers with events instead."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    streams: bool = False
    key: bool = True
    errors: tuple[int, ...] = ()


GENERATES = (404, 429, 503)
OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "Answer a conversation", answers.ChatCompletion, ChatCompletionRequest,
        streams=True, errors=GENERATES,
    ),
    Operation(
        "post", "/v1/chat/render", "The exact prompt of a chat request", answers.RenderedChat, ChatCompletionRequest,
        errors=(404, 503),
    ),
    Operation(
        "post", "/v1/completions", "Continue texts", answers.Completion, CompletionRequest, streams=True, errors=GENERATES
    ),
    Operation(
        "post", "/v1/responses", "Answer, and keep the answer", answers.ResponseAnswer, ResponseRequest,
        streams=True, errors=GENERATES,
    ),
    Operation("get", "/v1/responses/{response_id}", "A stored response", answers.ResponseAnswer, errors=(404,)),
    Operation("delete", "/v1/responses/{response_id}", "Forget a response", answers.Deleted, errors=(404,)),
    Operation(
        "post", "/v1/responses/{response_id}/cancel", "Stop computing a response", answers.ResponseAnswer, errors=(404,)
    ),
    Operation(
        "post", "/v1/embeddings", "Texts as vectors", answers.EmbeddingList, EmbeddingRequest, errors=(404, 503)
    ),
    Operation("get", "/v1/models", "What is served", answers.ModelList),
    Operation("get", "/v1/models/{name}", "One model, by name, version or alias", answers.Model, errors=(404,)),
    Operation("post", "/tokenize", "Text or messages to tokens", answers.Tokens, TokenizeRequest, errors=(404, 503)),
    Operation("post", "/detokenize", "Tokens to text", answers.Text, DetokenizeRequest, errors=(404, 503)),
    Operation("get", "/health", "Whether the engines are alive", answers.Health, key=False, errors=(503,)),
    Operation("get", "/readyz", "Whether new requests are welcome", answers.Health, key=False, errors=(503,)),
    Operation("get", "/metrics", "For Prometheus", key=False),
    Operation("get", "/stats", "A snapshot of every engine", answers.Stats, key=False),
    Operation("get", "/examples", "Prompts that the chat page offers", answers.Examples, key=False),
    Operation("get", "/openapi.json", "This document", answers.Answer, key=False),
    Operation("get", "/admin/policy", "Batching policies", answers.Policies),
    Operation("post", "/admin/policy", "Change the batching policy", answers.Policies, PolicyRequest, errors=(404,)),
)
WORDS = {
    400: "The request can never succeed as written; `param` names the field",
    401: "No API key, or a wrong one",
    404: "There is no such thing here",
    413: "The request body is too large",
    415: "The request body is not declared as JSON",
    429: "Too many requests wait; `Retry-After` says when to come back",
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


def _operation(one: Operation, places: dict[Any, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"text/plain": {"schema": {"type": "string"}}}
    if one.answer:
        content = {"application/json": {"schema": places[one.answer, "serialization"]}}
    if one.streams:
        content["text/event-stream"] = {
            "schema": {"type": "string", "description": 'With "stream": true: server-sent events, each one JSON object.'}
        }
    errors = {*one.errors, *((401,) if one.key else ()), *((400, 413, 415) if one.request else ())}
    if "{" in one.path:
        errors.add(404)
    refused = {"application/json": {"schema": places[answers.ErrorAnswer, "serialization"]}}
    operation: dict[str, Any] = {
        "summary": one.summary,
        "operationId": re.sub(r"\W+", "_", f"{one.method}_{one.path}").strip("_"),
        "responses": {
            "200": {"description": "Done", "content": content},
            **{
                str(status): {"description": WORDS[status], "content": refused}
                for status in sorted(errors)
            },
        },
    }
    if one.path in ("/health", "/readyz"):
        operation["responses"]["503"]["content"] = content
    if one.key:
        operation["security"] = [{"key": []}, {}]
    if one.request:
        schema = places[one.request, "validation"]
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if names := re.findall(r"{(\w+)}", one.path):
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
        ]
    return operation
