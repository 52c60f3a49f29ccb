"""/v1/feedback: what people think of answers. Everybody may give it; reading it takes an admin."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from lifecycle.feedback.judgements import Feedback, preferences
from serving.application.feedback import FeedbackStore
from serving.domain.errors import InvalidRequest
from serving.presentation.body import read_json, read_query
from serving.presentation.schemas.feedback import FeedbackRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState

PAGE = 50
MAX_PAGE = 500


def feedback_blueprint(state: ServerState, store: FeedbackStore) -> Blueprint:
    """Routes under /v1/feedback."""
    routes = Blueprint("feedback", __name__, url_prefix="/v1/feedback")

    def version_of(name: str | None) -> str:
        """What was asked may be an alias that moves tomorrow; what answered is a version."""
        return state.catalog.all()[0].version if name is None else state.catalog.version_of(name)

    @routes.post("")
    def give() -> tuple[Response, int]:
        tenant = state.tenant(request)
        feedback = read(FeedbackRequest, read_json(request)).root.feedback(tenant, version_of)
        store.add(feedback)
        return jsonify(id=feedback.id, object="feedback", created=int(feedback.created)), 201

    @routes.get("")
    def show() -> Response:
        """?limit=, ?after=ID and ?tenant=; newest first."""
        state.admin(request)
        known = read_query(request, "limit", "after", "tenant")
        limit = str(PAGE) if known["limit"] is None else known["limit"]
        if not (limit.isascii() and limit.isdigit() and len(limit) < 5 and 0 < int(limit) <= MAX_PAGE):
            raise InvalidRequest(f'"limit" must be a whole number from 1 to {MAX_PAGE}', param="limit")
        found = store.page(int(limit) + 1, after=known["after"], tenant=known["tenant"])
        page = found[: int(limit)]
        return jsonify(object="list", data=[feedback_json(one) for one in page], has_more=len(found) > len(page))

    @routes.get("/export")
    def export() -> Response:
        """Preference pairs, one JSON object a line, as `lifecycle rlhf --preferences FILE.jsonl` takes them."""
        state.admin(request)
        pairs = preferences(store.all(tenant=read_query(request, "tenant")["tenant"]))
        response = Response("".join(pairs.lines()), content_type="application/jsonl; charset=utf-8")
        response.headers["Content-Disposition"] = 'attachment; filename="preferences.jsonl"'
        return response

    return routes


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
