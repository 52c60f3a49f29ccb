"""Use case: turn texts into vectors."""

from __future__ import annotations

from dataclasses import dataclass

from serving.application.ports import ServedModel
from serving.domain.errors import ContextLengthExceeded, InvalidRequest

MOST_TOKENS = 65536
"""In one request, all texts together."""


@dataclass(frozen=True, slots=True)
class EmbedTexts:
    """Texts, or token ids, in; vectors out. `dimensions`: what the client expects, if it says so."""

    inputs: list[str | tuple[int, ...]]
    dimensions: int | None = None

    def tokens(self, model: ServedModel) -> list[tuple[int, ...]]:
        """Of each text, all within what the model reads. Raises `InvalidRequest` and `ContextLengthExceeded`."""
        if model.adapter is not None:
            raise InvalidRequest(f'"{model.name}" is an adapter: ask its base, {model.parent}', param="model")
        if model.embed is None:
            raise InvalidRequest(f"{model.name} makes no embeddings: ask another model", param="model")
        encode = model.tokenizer.encode
        texts = [tuple(encode(text)) if isinstance(text, str) else text for text in self.inputs]
        self._check(model, texts)
        return texts

    def vectors(self, model: ServedModel, texts: list[tuple[int, ...]]) -> list[list[float]]:
        """One of length 1 for each of the `tokens`. Raises `QueueFull` while others are read for long."""
        return model.embed(texts)

    def check_dimensions(self, model: ServedModel, vectors: list[list[float]]) -> None:
        """Raises `InvalidRequest`: how many there are is known when all has been computed already."""
        if self.dimensions not in (None, len(vectors[0])):
            raise InvalidRequest(
                f"{model.name} makes vectors of {len(vectors[0])} dimensions and no others: leave the field out",
                param="dimensions",
            )

    @staticmethod
    def _check(model: ServedModel, texts: list[tuple[int, ...]]) -> None:
        longest, total = max(map(len, texts)), sum(map(len, texts))
        if not all(texts):
            raise InvalidRequest("a text has no tokens: write at least one character", param="input")
        if longest > model.tokenizer.context_length:
            raise ContextLengthExceeded(
                f"a text has {longest} tokens, and {model.name} reads at most {model.tokenizer.context_length}: shorten it",
                param="input",
            )
        if total > MOST_TOKENS:
            raise InvalidRequest(
                f"the texts have {total} tokens, and one request takes {MOST_TOKENS}: send several", param="input"
            )
        if max(map(max, texts)) >= model.tokenizer.vocab_size:
            raise InvalidRequest(f"token ids must be below {model.tokenizer.vocab_size}", param="input")
