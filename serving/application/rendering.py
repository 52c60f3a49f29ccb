"""From a conversation to the prompt that the model reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from serving.application.ports import ServedModel
from serving.domain.media import Media


@dataclass(frozen=True, slots=True)
class RenderChat:
    """Messages (and tools) in, a prompt out.

    `messages` are plain dicts as chat templates take them: `content` is text, the `arguments` of a tool call are an
    object. `tools` is empty when the model may not call any. `variables` go to the template as they are. The `content` of
    a message that shows something is a list of parts {"type": "text", "text": ...}, {"type": "image"} and
    {"type": "video"}; `media` are what these show, in their order over all messages.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    variables: Mapping[str, Any] = field(default_factory=dict)
    media: tuple[Media, ...] = ()

    def text(self, model: ServedModel) -> str:
        """The very text. Raises `InvalidRequest(param="messages")` when the template refuses."""
        return model.tokenizer.render_text(
            self.messages,
            self.tools or None,
            add_generation_prompt=self.add_generation_prompt,
            continue_final_message=self.continue_final_message,
            variables=self.variables,
        )

    def tokens(self, model: ServedModel) -> tuple[int, ...]:
        """That text as the model reads it."""
        return tuple(model.tokenizer.encode_rendered(self.text(model)))
