"""Routes under /registry: what there is, where it came from, how two versions differ, and who becomes production."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request

from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from serving.domain.errors import InvalidRequest, ServingError
from serving.presentation.body import read_json, read_query
from serving.presentation.examinations import Examinations
from serving.presentation.registry_json import difference_json, overview_json, version_json
from serving.presentation.schemas.admin import VersionRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState


class NoSuchVersion(ServingError):
    """The registry has nothing of that name."""

    status = 404
    type = "invalid_request_error"
    code = "version_not_found"


def registry_blueprint(state: ServerState, place: str | Path) -> Blueprint:
    """Everything here is for admins; only `POST /registry/promote` changes the registry."""
    routes = Blueprint("registry", __name__, url_prefix="/registry")
    registry = ModelRegistry(place)
    examinations = Examinations(registry)

    @routes.get("")
    def overview() -> Response:
        """Every version with its parents and aliases, what this server serves, and where the two disagree."""
        with found():
            return jsonify(overview_json(registry, state.catalog.all()))

    @routes.get("/versions/<path:ref>")
    def version(ref: str) -> Response:
        """One version: manifest, model card, and its report card if this server has made one."""
        with found():
            one = registry.resolve(ref)
            return jsonify({**version_json(one), "report": examinations.card(one.ref)})

    @routes.get("/diff")
    def diff() -> Response:
        """?a=REF&b=REF: config, data, metrics, tokenizer and files, only where they differ."""
        asked = read_query(request, "a", "b")
        for name, ref in asked.items():
            if not ref:
                raise InvalidRequest(f'"{name}" is missing: ask for /registry/diff?a=sft/1&b=rlhf/1', param=name)
        with found():
            return jsonify(difference_json(registry.diff(**asked)))

    @routes.get("/job")
    def job() -> Response:
        """The examination that runs or ran last."""
        return jsonify(examinations.job())

    @routes.post("/report")
    def report() -> tuple[Response, int]:
        """{"ref": REF}: score a version on the frozen tasks, beside serving; follow it at /registry/job."""
        with found():
            examinations.report(registry.resolve(read(VersionRequest, read_json(request)).ref).ref)
        return jsonify(examinations.job()), 202

    @routes.post("/promote")
    def promote() -> tuple[Response, int]:
        """{"ref": REF}: move production to a deployed version if its report card is no worse, as `lifecycle deploy` does."""
        with found():
            one = registry.resolve(read(VersionRequest, read_json(request)).ref)
        examinations.promote(one)
        return jsonify(examinations.job()), 202

    return routes


@contextmanager
def found() -> Iterator[Any]:
    """What the registry says about a name that means nothing goes to the client."""
    try:
        yield
    except LifecycleError as error:
        raise NoSuchVersion(str(error), param="ref") from None
