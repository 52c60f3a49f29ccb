"""POST /v1/feedback: a thumb for one answer, or the better one of two."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from lifecycle.feedback.judgements import EDITED, Feedback
from serving.domain.errors import InvalidRequest
from serving.presentation.schemas.base import Name, Wire

MAX_BYTES = 2**20  # of one judgement in the database

Text = Annotated[str, Field(max_length=200_000)]
Comment = Annotated[str, Field(max_length=4_000)]
VersionOf = Callable[[str | None], str]
"""From a model's name, or None for the first one, to the version that it means now. Raises `ModelNotFound`."""


class TextPart(Wire):
    """Text as one of several parts."""

    type: Literal["text"]
    text: Text


class Message(Wire):
    """One message of the conversation that was answered, as it was sent to /v1/chat/completions."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[TextPart], Field(max_length=100)] | None = None
    reasoning_content: Text | None = None
    name: Name | None = None
    tool_calls: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    tool_call_id: Name | None = None


class Judgement(Wire):
    """What thumbs and comparisons share."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=1_000)]
    comment: Comment | None = None

    def stored(self) -> tuple[dict[str, Any], ...]:
        """The messages as they are kept."""
        return tuple(message.model_dump(exclude_none=True) for message in self.messages)


class ThumbRequest(Judgement):
    """An answer is good, or it is not. `model` is what was asked: a name, version or alias; the first one if absent."""

    kind: Literal["thumb"]
    rating: Literal["up", "down"]
    answer: Text
    model: Name | None = None

    def feedback(self, tenant: str, version_of: VersionOf) -> Feedback:
        """Raises `ModelNotFound`, and `InvalidRequest` for more than the database takes."""
        chosen = 0 if self.rating == "up" else None
        versions = (version_of(self.model),)
        return _fits(Feedback(self.kind, tenant, self.stored(), (self.answer,), versions, chosen, self.comment))


class ComparisonRequest(Judgement):
    """Of two answers to the same messages, one is better, or neither (null)."""

    kind: Literal["comparison"]
    answers: Annotated[list[Text], Field(min_length=2, max_length=2)]
    chosen: Annotated[int, Field(ge=0, le=1)] | None
    models: Annotated[list[Name | None], Field(min_length=2, max_length=2)]

    def feedback(self, tenant: str, version_of: VersionOf) -> Feedback:
        """Raises `ModelNotFound`, and `InvalidRequest` for more than the database takes."""
        versions = tuple(map(version_of, self.models))
        return _fits(
            Feedback(self.kind, tenant, self.stored(), tuple(self.answers), versions, self.chosen, self.comment)
        )


class EditRequest(Judgement):
    """An answer, and what it should have been: kept as a comparison that the edited text won."""

    kind: Literal["edit"]
    answer: Text
    edited: Text
    model: Name | None = None

    def feedback(self, tenant: str, version_of: VersionOf) -> Feedback:
        """Raises `ModelNotFound`, and `InvalidRequest` for no change or more than the database takes."""
        if self.edited == self.answer:
            raise InvalidRequest('"edited" is the answer as it was: change something, or send a thumb', param="edited")
        versions, answers = (version_of(self.model), EDITED), (self.answer, self.edited)
        return _fits(Feedback("comparison", tenant, self.stored(), answers, versions, 1, self.comment))


class FeedbackRequest(RootModel[Annotated[ThumbRequest | ComparisonRequest | EditRequest, Field(discriminator="kind")]]):
    """POST /v1/feedback."""


def _fits(feedback: Feedback) -> Feedback:
    if len(json.dumps([feedback.messages, feedback.answers])) > MAX_BYTES:
        raise InvalidRequest(f"messages and answers together may have {MAX_BYTES} bytes", param="messages")
    return feedback
