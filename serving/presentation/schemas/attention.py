"""POST /v1/chat/attention."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serving.application.attention import ShowAttention
from serving.application.media import MediaSource
from serving.domain.media import Media
from serving.presentation.schemas.base import Array, whole
from serving.presentation.schemas.chat import TemplateFields
from serving.presentation.schemas.completion import Ids, Text
from serving.presentation.schemas.messages import Messages, sources_in
from serving.presentation.schemas.steering import Tool

MOST_LAYERS = 512


class AttentionRequest(TemplateFields):
    """A conversation that shows something, and the answer that a model gave to it."""

    model: str | None = None
    messages: Messages
    """Up to the question, as they were sent to /v1/chat/completions."""
    answer: Text | Ids
    """Its text, or token ids."""
    tools: Array[Tool] | None = None
    layers: Annotated[list[whole(0, MOST_LAYERS - 1)], Field(min_length=1, max_length=MOST_LAYERS)] | None = None
    """Of the language model, from 0: the mean over their heads is told. By default over all layers."""

    def sources(self) -> list[MediaSource]:
        """What the messages show."""
        return sources_in(self.messages)

    def command(self, media: tuple[Media, ...] = ()) -> ShowAttention:
        """The use case; `media` are what `sources` became."""
        prompt = self.prompt_of(self.messages, [tool.template() for tool in self.tools or ()], media)
        answer = self.answer if isinstance(self.answer, str) else tuple(self.answer)
        return ShowAttention(prompt, answer, None if self.layers is None else tuple(self.layers))
