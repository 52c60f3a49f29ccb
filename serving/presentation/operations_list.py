"""Every operation of the server, for the OpenAPI document: what it takes, what it answers, and who may."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from serving.presentation.feedback import FeedbackRequest
from serving.presentation.model_admin import AddAdapter, LoadModel, SetAlias
from serving.presentation.schemas import answers
from serving.presentation.schemas.admin import AbortRequest, DrainRequest, PolicyRequest, VersionRequest
from serving.presentation.schemas.chat import ChatCompletionRequest
from serving.presentation.schemas.completion import CompletionRequest
from serving.presentation.schemas.embeddings import EmbeddingRequest
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.schemas.tokens import DetokenizeRequest, TokenizeRequest


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `answer` None: plain text. `streams`: with "stream": true it answers with events instead.

    `query`: parameters that may be given, those in `required` must be.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    streams: bool = False
    key: bool = True
    errors: tuple[int, ...] = ()
    status: int = 200
    query: tuple[str, ...] = ()
    required: tuple[str, ...] = ()


GENERATES = (404, 429, 503)
ADMIN = (403,)
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
    Operation("get", "/admin/policy", "Batching policies", answers.Policies, errors=ADMIN),
    Operation("post", "/admin/policy", "Change the batching policy", answers.Policies, PolicyRequest, errors=(403, 404)),
    Operation("get", "/admin/requests", "What waits and runs, of all tenants", answers.RequestList, errors=ADMIN),
    Operation("post", "/admin/abort", "End requests", answers.Aborted, AbortRequest, errors=(403, 404)),
    Operation("post", "/admin/drain", "Take nothing new", answers.Drained, DrainRequest, errors=ADMIN, status=202),
    Operation(
        "post", "/admin/models", "Serve one more version", answers.Model, LoadModel, errors=(403, 404, 409), status=201
    ),
    Operation("delete", "/admin/models/{name}", "Serve one less", answers.Deleted, errors=(403, 404, 409)),
    Operation(
        "post", "/admin/adapters", "Serve an adapter on its base", answers.Model, AddAdapter, errors=(403, 404, 409), status=201
    ),
    Operation("delete", "/admin/adapters/{name}", "Serve it no longer", answers.Deleted, errors=(403, 404)),
    Operation("post", "/admin/aliases", "Name a model", answers.Model, SetAlias, errors=(403, 404, 409)),
    Operation("delete", "/admin/aliases/{alias}", "Forget a name", answers.Model, errors=(403, 404, 409)),
    Operation(
        "post", "/v1/feedback", "Judge an answer, or two", answers.FeedbackKept, FeedbackRequest, errors=(404, 413), status=201
    ),
    Operation(
        "get", "/v1/feedback", "All judgements, page by page", answers.FeedbackList, errors=ADMIN, query=("after", "limit", "tenant")
    ),
    Operation("get", "/v1/feedback/export", "Preference pairs, one JSON object a line", errors=ADMIN, query=("tenant",)),
    Operation("get", "/engine/events", "What an engine does, as events", errors=(403, 404), query=("model",)),
    Operation("get", "/registry", "Every version and what is served", answers.Answer, errors=ADMIN),
    Operation("get", "/registry/versions/{ref}", "One version", answers.Answer, errors=ADMIN),
    Operation(
        "get", "/registry/diff", "How two versions differ", answers.Answer, errors=(403, 404), query=("a", "b"), required=("a", "b")
    ),
    Operation("get", "/registry/job", "The examination that runs or ran last", answers.Answer, errors=ADMIN),
    Operation("post", "/registry/report", "Score a version", answers.Answer, VersionRequest, errors=(403, 404, 409), status=202),
    Operation(
        "post", "/registry/promote", "Make a version production, if it is no worse", answers.Answer, VersionRequest,
        errors=(403, 404, 409), status=202,
    ),
)
