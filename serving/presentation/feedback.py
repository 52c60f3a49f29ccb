"""/v1/feedback: what people think of answers. Everybody may give it; reading it takes an admin."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, jsonify, request
from pydantic import Field, RootModel

from serving.application.feedback import Feedback, FeedbackStore, preferences
from serving.domain.errors import InvalidRequest
from serving.presentation.body import read_json
from serving.presentation.schemas.base import Wire
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState

MAX_BYTES = 2**20  # of one judgement in the database
PAGE = 50
MAX_PAGE = 500

Text = Annotated[str, Field(max_length=200_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Comment = Annotated[str, Field(max_length=4_000)]


class TextPart(Wire):
    """Text as one of several parts."""

    type: Literal["text"]
    text: Text


class Message(Wire):
    """One message of the conversation that was answered, as it was sent to /v1/chat/completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=100)] | None = None
    name: Name | None = None
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_call_id: Name | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=1_000)]


class ThumbRequest(Wire):
    """An answer is good, or it is not. `model` is what was asked: a name, version or alias; the first one if absent."""

    kind: Literal["thumb"]
    rating: Literal["up", "down"]
    messages: Messages
    answer: Text
    model: Name | None = None
    comment: Comment | None = None

    def feedback(self, state: ServerState, tenant: str) -> Feedback:
        """Raises `ModelNotFound`."""
        chosen = 0 if self.rating == "up" else None
        return _feedback(self, state, tenant, (self.answer,), (self.model,), chosen)


class ComparisonRequest(Wire):
    """Of two answers to the same messages, one is better, or neither (null)."""

    kind: Literal["comparison"]
    messages: Messages
    answers: Annotated[list[Text], Field(min_length=2, max_length=2)]
    chosen: Annotated[int, Field(ge=0, le=1)] | None
    models: Annotated[list[Name | None], Field(min_length=2, max_length=2)]
    comment: Comment | None = None

    def feedback(self, state: ServerState, tenant: str) -> Feedback:
        """Raises `ModelNotFound`."""
        return _feedback(self, state, tenant, tuple(self.answers), tuple(self.models), self.chosen)


class FeedbackRequest(RootModel[Annotated[ThumbRequest | ComparisonRequest, Field(discriminator="kind")]]):
    """POST /v1/feedback, for the OpenAPI document."""


KINDS = {"thumb": ThumbRequest, "comparison": ComparisonRequest}


def feedback_blueprint(state: ServerState, store: FeedbackStore) -> Blueprint:
    """Routes under /v1/feedback."""
    routes = Blueprint("feedback", __name__, url_prefix="/v1/feedback")

    @routes.post("")
    def give() -> tuple[Response, int]:
        tenant = state.tenant(request)
        feedback = read_feedback(read_json(request)).feedback(state, tenant)
        store.add(feedback)
        return jsonify(id=feedback.id, object="feedback", created=int(feedback.created)), 201

    @routes.get("")
    def show() -> Response:
        """?limit=, ?after=ID and ?tenant=; newest first."""
        state.admin(request)
        known = query("limit", "after", "tenant")
        limit = str(PAGE) if known["limit"] is None else known["limit"]
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 0 < int(limit) <= MAX_PAGE):
            raise InvalidRequest(f'"limit" must be a whole number from 1 to {MAX_PAGE}', param="limit")
        found = store.page(int(limit) + 1, after=known["after"], tenant=known["tenant"])
        page = found[: int(limit)]
        return jsonify(object="list", data=[feedback_json(one) for one in page], has_more=len(found) > len(page))

    @routes.get("/export")
    def export() -> Response:
        """Preference pairs, one JSON object a line, as `lifecycle rlhf --data FILE.jsonl` takes them."""
        state.admin(request)
        pairs = preferences(store.all(tenant=query("tenant")["tenant"]))
        response = Response("".join(pairs.lines()), content_type="application/jsonl; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="preferences.jsonl"'
        return response

    return routes


def read_feedback(body: Any) -> ThumbRequest | ComparisonRequest:
    """Raises `InvalidRequest` naming the field."""
    kind = body.get("kind") if isinstance(body, dict) else None
    if isinstance(body, dict) and (not isinstance(kind, str) or kind not in KINDS):
        raise InvalidRequest(f'"kind" must be one of {", ".join(KINDS)}', param="kind")
    return read(KINDS.get(kind, ThumbRequest), body)


def feedback_json(feedback: Feedback) -> dict[str, Any]:
    """What an admin reads; the fields are those of the request, with the versions that gave the answers."""
    common = {"id": feedback.id, "object": "feedback", "created": feedback.created, "tenant": feedback.tenant}
    judged: dict[str, Any] = {"kind": feedback.kind, "messages": list(feedback.messages)}
    if feedback.kind == "thumb":
        rating = "down" if feedback.chosen is None else "up"
        judged |= {"rating": rating, "answer": feedback.answers[0], "model": feedback.versions[0]}
    else:
        judged |= {"answers": feedback.answers, "chosen": feedback.chosen, "models": feedback.versions}
    return {**common, **judged, "comment": feedback.comment}


def query(*names: str) -> dict[str, str | None]:
    """The parameters of the address. Raises `InvalidRequest` for any other one."""
    for name in request.args:
        if name not in names:
            raise InvalidRequest(f'unknown parameter "{name[:80]}": there is {", ".join(names)}', param=name[:80])
    return {name: request.args.get(name) for name in names}


def _feedback(
    asked: ThumbRequest | ComparisonRequest,
    state: ServerState,
    tenant: str,
    answers: tuple[str, ...],
    models: tuple[str | None, ...],
    chosen: int | None,
) -> Feedback:
    """What was asked may be an alias that moves tomorrow; what answered is a version."""
    first = state.catalog.all()[0]
    versions = tuple((first if name is None else state.catalog.get(name)).version for name in models)
    messages = tuple(message.model_dump(exclude_none=True) for message in asked.messages)
    if len(json.dumps([messages, answers])) > MAX_BYTES:
        raise InvalidRequest(f"messages and answers together may have {MAX_BYTES} bytes", param="messages")
    return Feedback(asked.kind, tenant, messages, answers, versions, chosen, asked.comment)
