"""JSON bodies as strict pydantic models, and pydantic's errors in the words of this API."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from lifecycle.config import near_miss
from serving.domain.errors import InvalidRequest


class StrictModel(BaseModel):
    """No field is made of another kind of value, and none is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


Model = TypeVar("Model", bound=StrictModel)


def read_model(model: type[Model], body: Any) -> Model:
    """Raises `InvalidRequest` with the first mistake and its place, as in "messages.0.role"."""
    if not isinstance(body, dict):
        raise InvalidRequest("the request body must be an object")
    try:
        return model.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
    places = [_steps(one["loc"], body) for one in found]
    # Every member of a union complains: the one that got furthest is the one that was meant.
    where = max((place for place in places if place[: len(places[0])] == places[0]), key=len)
    mistake = found[places.index(where)]
    param = ".".join(map(str, where))[:200] or None
    if mistake["type"] == "missing":
        raise InvalidRequest(f'"{param}" is missing', param=param)
    if mistake["type"] == "extra_forbidden":
        raise InvalidRequest(f'unknown field "{param}".{near_miss(str(where[-1]), model.model_fields)}', param=param)
    what = mistake["msg"][:1].lower() + mistake["msg"][1:]
    raise InvalidRequest(f'"{param}": {what}', param=param)


def _steps(location: tuple[int | str, ...], body: Any) -> list[int | str]:
    """A location without pydantic's own steps, the members of unions; a missing or unknown field is its last step."""
    steps: list[int | str] = []
    for at, step in enumerate(location):
        if isinstance(body, dict) and (step in body or at == len(location) - 1):
            body = body.get(step)
        elif isinstance(body, list) and isinstance(step, int) and 0 <= step < len(body):
            body = body[step]
        else:
            continue
        steps.append(step)
    return steps
