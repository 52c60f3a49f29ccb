"""POST /v1/embeddings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PlainValidator

from serving.presentation.schemas.base import Count, Wire
from serving.presentation.schemas.completion import Ids, Text, read_prompts

MAX_INPUTS = 256

Inputs = Annotated[
    list[str | tuple[int, ...]],
    PlainValidator(
        read_prompts,
        json_schema_input_type=Text
        | Ids
        | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
        | Annotated[list[Ids], Field(min_length=1, max_length=MAX_INPUTS)],
    ),
    Field(max_length=MAX_INPUTS),
]


class EmbeddingRequest(Wire):
    """Texts to turn into vectors."""

    model: str | None = None
    input: Inputs
    """A text, token ids, or an array of either."""
    encoding_format: Literal["float", "base64"] = "float"
    """base64: little-endian float32."""
    dimensions: Count | None = None
    """Only the model's own number."""
    user: str | None = None
    """A label that changes nothing."""
