"""pydantic's errors in the words of this API: the first mistake, its place as in "messages[0].content", what to send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lifecycle.config import near_miss
from serving.domain.errors import InvalidRequest
from serving.presentation.schemas.base import Wire
from serving.presentation.schemas.words import describe, shorten

LONGEST = 100
"""Characters of a field's name in an error."""
KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "an array",
    "tuple_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
BOUNDS = {"greater_than_equal": ("ge", "at least"), "greater_than": ("gt", "above"), "less_than_equal": ("le", "at most")}
SIZES = {
    "too_long": ("max_length", "at most {} items"),
    "too_short": ("min_length", "at least {} items"),
    "string_too_long": ("max_length", "at most {} characters"),
    "string_too_short": ("min_length", "at least {} characters"),
}
Request = TypeVar("Request", bound=BaseModel)


def read(model: type[Request], body: Any) -> Request:
    """The body as a model. Raises `InvalidRequest` naming the first field that is wrong."""
    models: dict[int, type[Wire]] = {}
    try:
        return model.model_validate(body, context=models)
    except ValidationError as error:
        raise translate(furthest(error.errors(include_url=False), body), body, models) from None


def furthest(errors: Sequence[Mapping[str, Any]], body: Any) -> Mapping[str, Any]:
    """The first mistake. Every member of a union complains: the one that got furthest is the one that was meant."""
    places = [way(error["loc"], body, missing=error["type"] == "missing")[0] for error in errors]
    first = places[0]
    deepest = max((place for place in places if place[: len(first)] == first), key=len)
    return errors[places.index(deepest)]


def translate(error: Mapping[str, Any], body: Any, models: Mapping[int, type[Wire]]) -> InvalidRequest:
    """One of `ValidationError.errors()` as ours; `models` maps the ids of objects in `body` to what they were read as."""
    kind, context = error["type"], error.get("ctx", {})
    steps, parent = way(error["loc"], body, missing=kind == "missing")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        steps.append(context["discriminator"].strip("'"))
    elif kind == "unknown_type":
        steps.append("type")
    elif context.get("field"):
        steps.append(context["field"])
    param = path(steps)
    subject = f'"{param}"' if param else "the request body"
    if kind == "refused":
        return InvalidRequest(context["message"].replace("{param}", subject), param=param)
    if kind in ("missing", "union_tag_not_found"):
        return InvalidRequest(f"{subject} is missing", param=param)
    if kind == "extra_forbidden":
        known = models[id(parent)].model_fields if id(parent) in models else ()
        hint = near_miss(str(steps[-1])[:LONGEST], known)
        return InvalidRequest(f"unknown field {subject}.{hint}", param=param)
    return InvalidRequest(f"{subject} {_complaint(kind, error, context)}", param=param)


def way(location: Sequence[int | str], body: Any, *, missing: bool) -> tuple[list[int | str], Any]:
    """The steps of a location that lead through the body, and what the last one is in.

    A member of a union is a step of pydantic's only; a `missing` field is a last step that leads nowhere.
    """
    if location and location[-1] == "[key]":  # of a dict: the dict is to blame
        location = location[:-2]
    steps: list[int | str] = []
    parent = None
    for at, step in enumerate(location):
        inside = isinstance(body, dict) and step in body
        if inside or (isinstance(body, list) and isinstance(step, int) and step < len(body)):
            parent, body = body, body[step]
        elif not (missing and at == len(location) - 1):
            continue
        steps.append(step)
    return steps, parent


def path(steps: Sequence[int | str]) -> str | None:
    """["messages", 0, "content"] as "messages[0].content"."""
    words = [f"[{step}]" if isinstance(step, int) else f".{shorten(step, LONGEST)}" for step in steps]
    return "".join(words).removeprefix(".") or None


def _complaint(kind: str, error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    given = describe(error["input"])
    if kind == "unknown_type":
        return f"{error['msg']}, not {describe(error['input'].get('type'))}"
    if kind in KINDS:
        return f"must be {KINDS[kind]}, not {given}"
    if kind in BOUNDS:
        name, words = BOUNDS[kind]
        return f"must be {words} {context[name]}, not {given}"
    if kind in SIZES:
        name, words = SIZES[kind]
        return f"must have {words.format(context[name])}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {given}".replace("'", '"')
    if kind == "union_tag_invalid":
        return f"must be one of {context['expected_tags']}".replace("'", '"')
    return f"is wrong: {shorten(error['msg'], 200)}"
