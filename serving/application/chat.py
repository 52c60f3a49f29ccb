"""Use case: answer a conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.application.generation import Generation, Options, admit
from serving.application.ports import ServedModel
from serving.application.rendering import RenderChat

DEFAULT_MAX_TOKENS = 1024


@dataclass(frozen=True, slots=True)
class GenerateChat:
    """A conversation in, one answer per choice out."""

    prompt: RenderChat
    options: Options = field(default_factory=Options)
    tenant: str = "default"

    def start(self, model: ServedModel, kind: str = "chatcmpl") -> Generation:
        """Render the template, check the limits, queue. Raises `InvalidRequest` and what `EnginePort.submit` raises."""
        return admit(
            kind,
            model,
            [self.prompt.tokens(model)],
            self.options,
            tenant=self.tenant,
            parse_tools=bool(self.prompt.tools),
            default_max_tokens=DEFAULT_MAX_TOKENS,
            prompt_param="messages",
        )
