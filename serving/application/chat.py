"""Use case: answer a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from serving.application.generation import Generation, Options, admit
from serving.application.ports import ServedModel

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class GenerateChat:
    """Messages (and tools) in, one answer per choice out.

    `messages` are plain dicts as chat templates take them: `content` is text, the `arguments` of a tool call are an
    object. `tools` is empty when the model may not call any.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    tenant: str = "default"

    def start(self, model: ServedModel) -> Generation:
        """Render the template, check the limits, queue. Raises `InvalidRequest` and what `EnginePort.submit` raises."""
        prompt = tuple(model.tokenizer.render_chat(self.messages, self.tools or None))
        return admit(
            "chatcmpl",
            model,
            [prompt],
            self.options,
            tenant=self.tenant,
            parse_tools=bool(self.tools),
            default_max_tokens=DEFAULT_MAX_TOKENS,
            prompt_param="messages",
        )
