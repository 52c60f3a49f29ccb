"""What can never be served is refused before it queues, with the numbers."""

from __future__ import annotations

from serving.domain.errors import ContextLengthExceeded, InvalidRequest
from serving.domain.request import Request


def check_request(request: Request, *, vocab_size: int, capacity: int) -> None:
    """Raises InvalidRequest or ContextLengthExceeded. `capacity`: tokens of prompt and answer that fit model and KV pool."""
    prompt, wanted = len(request.prompt_tokens), request.sampling.max_tokens
    if not prompt:
        raise InvalidRequest("the prompt is empty; send at least one token", param="prompt")
    if wanted < 1:
        raise InvalidRequest(f"max_tokens must be at least 1, not {wanted}", param="max_tokens")
    if not 0 <= min(request.prompt_tokens) <= max(request.prompt_tokens) < vocab_size:
        raise InvalidRequest(f"prompt tokens must be between 0 and {vocab_size - 1}", param="prompt")
    if any(not 0 <= token < vocab_size for token in request.sampling.logit_bias):
        raise InvalidRequest(f"logit_bias takes token ids between 0 and {vocab_size - 1}", param="logit_bias")
    if prompt + wanted > capacity:
        raise ContextLengthExceeded(
            f"{prompt} prompt tokens and max_tokens={wanted} make {prompt + wanted}, "
            f"but at most {capacity} fit; shorten the prompt or lower max_tokens",
            param="max_tokens" if prompt < capacity else "prompt",
        )
