"""What every request model shares: JSON types as they are, `null` for absent, and refusals that name their field."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

INT32, INT64 = 2**31 - 1, 2**63 - 1


MOST_FIELDS = 256
"""Of an object: each wrong one costs an error, and a body may be long."""
Item = TypeVar("Item")
Array = Annotated[list[Item], Field(fail_fast=True)]
"""Of any length: its first wrong item ends the reading."""


def few(most: int) -> BeforeValidator:
    """For an object of any names: so many, or it is not even read."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > most:
            raise PydanticCustomError("too_long", "too many", {"max_length": most})
        return value

    return BeforeValidator(check)


class Wire(BaseModel):
    """A JSON object. No field is made of another kind of value, and none is silently ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict):
            return value
        if len(value) > MOST_FIELDS:
            raise refusal(f"{{param}} has {len(value)} fields: no object here has more than {MOST_FIELDS}")
        if info.context is not None:
            info.context[id(value)] = cls  # for near misses: an error knows its place, not its model
        return {name: one for name, one in value.items() if one is not None or cls._takes_null(name)}

    @classmethod
    def _takes_null(cls, name: str) -> bool:
        """Whether `null` is one of the answers that a field has to be given."""
        field = cls.model_fields.get(name)
        return field is not None and field.is_required() and NoneType in get_args(field.annotation)


def refusal(message: str, field: str | None = None) -> PydanticCustomError:
    """An error in our own words; "{param}" stands for the place. `field`: the one to blame in the object at hand."""
    return PydanticCustomError("refused", "{message}", {"message": message, "field": field})


def _whole(value: Any) -> Any:
    """JSON does not tell 1 from 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _only(value: Any, handler: Any) -> Any:
    try:
        return handler(value)
    except ValidationError:
        raise refusal("{param} is not supported by this server") from None


Harmless = TypeVar("Harmless")
Unsupported = Annotated[Harmless | None, WrapValidator(_only)]
"""A field of OpenAI's that is accepted only with a value that asks for nothing."""


def whole(low: int, high: int) -> Any:
    """The type of whole numbers between two bounds, both included."""
    return Annotated[int, Field(ge=low, le=high), BeforeValidator(_whole)]


Count = whole(1, INT32)
TokenId = whole(0, INT32)
Name = Annotated[str, Field(min_length=1, max_length=200)]
"""Of a model, a version, a request: longer than any that there is."""
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16), few(16)
]
