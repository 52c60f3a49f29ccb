"""From a request to a JSON value that is safe to walk through, and to the parameters of its address."""

from __future__ import annotations

import json
from typing import Any

from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge, UnsupportedMediaType

from serving.domain.errors import InvalidRequest

MAX_DEPTH = 64


def read_json(request: Request) -> Any:
    """The body as JSON. Raises 413, 415, or `InvalidRequest` with the place of the mistake."""
    if request.mimetype != "application/json":
        raise UnsupportedMediaType('send JSON with the header "Content-Type: application/json"')
    raw = request.get_data(cache=False)
    most = request.max_content_length
    if most is not None and request.content_length is None and len(raw) >= most:
        raise RequestEntityTooLarge  # in chunks: what came after the limit has been cut off silently
    return parse(raw)


def parse(raw: bytes, what: str = "the request body") -> Any:
    """A JSON value. Raises `InvalidRequest` with the place of the mistake in `what`."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse)
        if b"\\ud" in raw.lower():  # half of a surrogate pair passes JSON and breaks everything later
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} is not UTF-8: byte {error.start} is wrong") from None
    except UnicodeEncodeError:
        raise InvalidRequest(f"a string in {what} holds half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise InvalidRequest(
            f"{what} is not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        ) from None
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deeply") from None
    except ValueError as error:
        raise InvalidRequest(f"{what} is not JSON: {error}") from None
    if depth(value) > MAX_DEPTH:
        raise InvalidRequest(f"{what} is nested deeper than {MAX_DEPTH} levels")
    return value


def read_query(request: Request, *names: str) -> dict[str, str | None]:
    """The parameters of the address, None where one is absent. Raises `InvalidRequest` for any other one."""
    for name in request.args:
        if name not in names:
            raise InvalidRequest(f'unknown parameter "{name[:80]}": there is {", ".join(names)}', param=name[:80])
    return {name: request.args.get(name) for name in names}


def depth(value: Any) -> int:
    """Levels of arrays and objects, walked without recursion; stops one level past `MAX_DEPTH`."""
    level, containers = 0, [value]
    while containers and level <= MAX_DEPTH:
        inner: list[Any] = []
        for one in containers:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        containers = [one for one in inner if isinstance(one, dict | list)]
        level += 1
    return level


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not a JSON number")
