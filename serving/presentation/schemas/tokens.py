"""POST /tokenize and /detokenize."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from serving.application.media import MediaSource
from serving.application.rendering import RenderChat
from serving.domain.media import Media
from serving.presentation.schemas.base import Array, TokenId, Wire, refusal
from serving.presentation.schemas.chat import TemplateFields
from serving.presentation.schemas.messages import Messages, sources_in
from serving.presentation.schemas.steering import Tool

MAX_TOKENS = 2**20


class TokenizeRequest(TemplateFields):
    """A text, or messages that the chat template makes one of."""

    model: str | None = None
    prompt: str | None = None
    """A text; may be empty."""
    messages: Messages | None = None
    tools: Array[Tool] | None = None
    return_token_strs: bool = False
    """Also the text of each token."""

    @model_validator(mode="after")
    def _one_of_both(self) -> TokenizeRequest:
        super()._one_of_both()
        if (self.prompt is None) == (self.messages is None):
            raise refusal('send either "prompt" or "messages"', "prompt")
        return self

    def sources(self) -> list[MediaSource]:
        """What the messages show."""
        return sources_in(self.messages or ())

    def render(self, media: tuple[Media, ...] = ()) -> RenderChat:
        """How the messages become a text; `media` are what `sources` became."""
        return self.prompt_of(self.messages or (), [tool.template() for tool in self.tools or ()], media)


class DetokenizeRequest(Wire):
    """Token ids to make a text of."""

    model: str | None = None
    tokens: Annotated[Array[TokenId], Field(max_length=MAX_TOKENS)]
