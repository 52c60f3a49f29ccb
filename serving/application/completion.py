"""Use case: continue texts."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.application.generation import Generation, Options, admit
from serving.application.ports import ServedModel
from serving.domain.errors import InvalidRequest
from serving.domain.request import Prompt

DEFAULT_MAX_TOKENS = 16  # what OpenAI's completions do


@dataclass(frozen=True, slots=True)
class GenerateText:
    """Prompts in, as text or as token ids; `options.n` continuations of each out."""

    prompts: list[str | tuple[int, ...]]
    options: Options = field(default_factory=Options)
    tenant: str = "default"
    echo: bool = False
    """Answers begin with their prompts; `options.logprobs` are of both then."""

    def start(self, model: ServedModel) -> Generation:
        """Tokenise, check the limits, queue. Raises `InvalidRequest` and what `EnginePort.submit` raises."""
        encode = model.tokenizer.encode
        prompts = [tuple(encode(prompt)) if isinstance(prompt, str) else prompt for prompt in self.prompts]
        if not all(prompts):
            raise InvalidRequest("a prompt has no tokens: write at least one character", param="prompt")
        return admit(
            "cmpl",
            model,
            [Prompt(prompt) for prompt in prompts],
            self.options,
            tenant=self.tenant,
            default_max_tokens=DEFAULT_MAX_TOKENS,
            prompt_param="prompt",
            score_prompts=self.echo and self.options.logprobs is not None,
        )

    def echoes(self, model: ServedModel) -> list[str]:
        """What each prompt's answers begin with."""
        if not self.echo:
            return [""] * len(self.prompts)
        decode = model.tokenizer.decode
        return [prompt if isinstance(prompt, str) else decode(prompt) for prompt in self.prompts]
