"""Every operation of the server, for the OpenAPI document: what it takes, what it answers, and who may."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from serving.presentation.schemas import answers
from serving.presentation.schemas.admin import (
    AbortRequest,
    AdapterRequest,
    AliasRequest,
    DrainRequest,
    LoadRequest,
    PolicyRequest,
    SwapRequest,
    VersionRequest,
)
from serving.presentation.schemas.attention import AttentionRequest
from serving.presentation.schemas.audio import SpeechRequest, TranscriptionRequest
from serving.presentation.schemas.chat import ChatCompletionRequest
from serving.presentation.schemas.completion import CompletionRequest
from serving.presentation.schemas.embeddings import EmbeddingRequest
from serving.presentation.schemas.feedback import FeedbackRequest
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.schemas.tokens import DetokenizeRequest, TokenizeRequest


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path.

    `answer` None: text of the type `media`. `streams`: with "stream": true it answers with events instead. `key`: it takes
    one, where the server has keys; `admin`: an admin's. `query`: parameters that may be given, those in `required` must be.
    `form`: it takes a form with a file instead of JSON. `also` are further types that an answer may have.
    `errors` are those that do not follow from the rest.
    """

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None = None
    request: type[BaseModel] | None = None
    media: str = "text/plain"
    streams: bool = False
    key: bool = True
    admin: bool = False
    errors: tuple[int, ...] = ()
    status: int = 200
    query: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    form: bool = False
    also: tuple[str, ...] = ()


MODEL = (404, 503)
"""It is not served, or the server is closing down."""
SEEN = (*MODEL, 501)
"""The same for what a model may be shown."""
OPERATIONS = (
    Operation(
        "post", "/v1/chat/completions", "Answer a conversation", answers.ChatCompletion, ChatCompletionRequest,
        streams=True, errors=(*SEEN, 403),
    ),
    Operation(
        "post", "/v1/chat/render", "The exact prompt of a chat request", answers.RenderedChat, ChatCompletionRequest,
        errors=SEEN,
    ),
    Operation(
        "post", "/v1/chat/attention", "Where a model looked as it wrote an answer", answers.Attention, AttentionRequest,
        errors=SEEN,
    ),
    Operation(
        "post", "/v1/completions", "Continue texts", answers.Completion, CompletionRequest,
        streams=True, errors=(*MODEL, 403),
    ),
    Operation(
        "post", "/v1/responses", "Answer, and keep the answer", answers.ResponseAnswer, ResponseRequest,
        streams=True, errors=(*SEEN, 403),
    ),
    Operation("get", "/v1/responses/{response_id}", "A stored response", answers.ResponseAnswer, query=("stream",)),
    Operation("delete", "/v1/responses/{response_id}", "Forget a response", answers.Deleted),
    Operation("post", "/v1/responses/{response_id}/cancel", "Stop computing a response", answers.ResponseAnswer),
    Operation("post", "/v1/embeddings", "Texts as vectors", answers.EmbeddingList, EmbeddingRequest, errors=MODEL),
    Operation(
        "get", "/v1/realtime", "A live conversation in speech, over a WebSocket (docs/voice.md)",
        errors=(*MODEL, 400, 429, 501), status=101, query=("model",),
    ),
    Operation(
        "post", "/v1/audio/transcriptions", "Write down what a sound says", answers.Transcription, TranscriptionRequest,
        form=True, also=("text/plain", "text/vtt"), streams=True, errors=SEEN,
    ),
    Operation(
        "post", "/v1/audio/translations", "Refused: nothing here translates", answers.ErrorAnswer, status=501, errors=(429,)
    ),
    Operation(
        "post", "/v1/audio/speech", "Speak a text", None, SpeechRequest, media="audio/*", streams=True, errors=SEEN
    ),
    Operation("get", "/v1/models", "What is served", answers.ModelList),
    Operation("get", "/v1/models/{name}", "One model, by name, version or alias", answers.Model),
    Operation("post", "/tokenize", "Text or messages to tokens", answers.Tokens, TokenizeRequest, errors=SEEN),
    Operation("post", "/detokenize", "Tokens to text", answers.Text, DetokenizeRequest, errors=MODEL),
    Operation("get", "/health", "Whether the engines are alive", answers.Health, key=False),
    Operation("get", "/readyz", "Whether new requests are welcome", answers.Health, key=False),
    Operation("get", "/metrics", "For Prometheus", key=False),
    Operation("get", "/stats", "A snapshot of every engine", answers.Stats, key=False),
    Operation("get", "/examples", "What the page has to know before its first request", answers.Examples, key=False),
    Operation("get", "/openapi.json", "This document", answers.Answer, key=False),
    Operation("get", "/admin/policy", "Batching policies", answers.Policies, admin=True),
    Operation(
        "post", "/admin/policy", "Change the batching policy", answers.Policies, PolicyRequest,
        admin=True, errors=(404,),
    ),
    Operation("get", "/admin/requests", "What waits and runs, of all tenants", answers.RequestList, admin=True),
    Operation("post", "/admin/abort", "End requests", answers.Aborted, AbortRequest, admin=True, errors=(404,)),
    Operation("post", "/admin/drain", "Take nothing new", answers.Drained, DrainRequest, admin=True, status=202),
    Operation(
        "post", "/admin/models", "Serve one more version", answers.Model, LoadRequest,
        admin=True, errors=(409,), status=201,
    ),
    Operation("delete", "/admin/models/{name}", "Serve one less", answers.Unloaded, admin=True, errors=(409,)),
    Operation(
        "post", "/admin/swap", "Serve a version in place of another", answers.Model, SwapRequest,
        admin=True, errors=(404, 409),
    ),
    Operation(
        "post", "/admin/adapters", "Serve an adapter on its base", answers.Model, AdapterRequest,
        admin=True, errors=(404, 409), status=201,
    ),
    Operation("delete", "/admin/adapters/{name}", "Serve it no longer", answers.Unloaded, admin=True, errors=(400,)),
    Operation(
        "post", "/admin/aliases", "Name a model", answers.Model, AliasRequest, admin=True, errors=(404, 409)
    ),
    Operation("delete", "/admin/aliases/{alias}", "Forget a name", answers.Model, admin=True),
    Operation(
        "post", "/v1/feedback", "Judge an answer, or two", answers.FeedbackKept, FeedbackRequest,
        errors=MODEL, status=201,
    ),
    Operation(
        "get", "/v1/feedback", "All judgements, page by page", answers.FeedbackList,
        admin=True, errors=(503,), query=("after", "limit", "tenant"),
    ),
    Operation(
        "get", "/v1/feedback/export", "Preference pairs, one JSON object a line",
        media="application/jsonl", admin=True, errors=(503,), query=("tenant",),
    ),
    Operation(
        "get", "/engine/events", "What an engine does, as events",
        media="text/event-stream", admin=True, errors=(*MODEL, 429), query=("model",),
    ),
    Operation("get", "/registry", "Every version and what is served", answers.Registry, admin=True),
    Operation("get", "/registry/versions/{ref}", "One version", answers.Version, admin=True),
    Operation(
        "get", "/registry/diff", "How two versions differ", answers.Difference,
        admin=True, errors=(404,), query=("a", "b"), required=("a", "b"),
    ),
    Operation("get", "/registry/job", "The examination that runs or ran last", answers.Job, admin=True),
    Operation(
        "post", "/registry/report", "Score a version", answers.Job, VersionRequest,
        admin=True, errors=(404, 409), status=202,
    ),
    Operation(
        "post", "/registry/promote", "Make a version production, if it is no worse", answers.Job, VersionRequest,
        admin=True, errors=(404, 409), status=202,
    ),
)
