"""POST /v1/completions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, PlainValidator, model_validator

from serving.application.completion import GenerateText
from serving.presentation.schemas.base import INT32, Array, TokenId, Unsupported, refusal, whole
from serving.presentation.schemas.sampling import MAX_CHOICES, SamplingFields
from serving.presentation.schemas.words import describe


def read_prompts(value: Any) -> list[str | tuple[int, ...]]:
    """A string, token ids, or an array of strings or of arrays of token ids."""
    if isinstance(value, str) or _is_ids(value):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(prompt, str) or _is_ids(prompt) for prompt in value):
        raise refusal(f"{{param}} must be a string, an array of token ids, or an array of either, not {describe(value)}")
    if not value or not all(value):
        raise refusal("{param} is empty: write at least one character")
    return [prompt if isinstance(prompt, str) else tuple(prompt) for prompt in value]


def _is_ids(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, int) and not isinstance(one, bool) and 0 <= one <= INT32 for one in value)
    )


Text = Annotated[str, Field(min_length=1)]
Ids = Annotated[Array[TokenId], Field(min_length=1)]
Prompts = Annotated[
    list[str | tuple[int, ...]],
    PlainValidator(
        read_prompts,
        json_schema_input_type=Text
        | Ids
        | Annotated[list[Text], Field(min_length=1)]
        | Annotated[list[Ids], Field(min_length=1)],
    ),
]


class CompletionRequest(SamplingFields):
    """Texts to continue."""

    prompt: Prompts
    """A text, token ids, or an array of either."""
    logprobs: whole(0, 20) | None = None
    """Log-probabilities of the answer's tokens, and of so many others at each place; with `echo` of the prompt's too."""
    echo: bool = False
    """The answer begins with the prompt."""
    best_of: whole(1, MAX_CHOICES) | None = None
    """Only the value of `n`: this server does not choose among answers."""
    suffix: Unsupported[Annotated[str, Field(max_length=0)]] = None

    @model_validator(mode="after")
    def _agrees(self) -> CompletionRequest:
        if self.best_of not in (None, self.n or 1):
            raise refusal("{param} is not supported by this server", "best_of")
        if len(self.prompt) * (self.n or 1) > MAX_CHOICES:
            raise refusal(f"at most {MAX_CHOICES} answers (prompts times n) in one request", "n")
        return self

    def command(self, tenant: str) -> GenerateText:
        """The use case."""
        options = self.options(max_tokens=self.max_tokens, logprobs=self.logprobs)
        return GenerateText(self.prompt, options, tenant, echo=self.echo)
