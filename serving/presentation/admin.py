"""For whoever runs the server: the batching policy, what runs, ending it, draining. The guard asks for keys."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Any

from flask import Blueprint, Response, jsonify, request

from serving.application.ports import RunningRequest, ServedModel
from serving.domain.errors import InvalidRequest, NoSuchRequest
from serving.domain.policies import policy_names
from serving.presentation.body import read_json
from serving.presentation.schemas.admin import AbortRequest, DrainRequest, PolicyRequest
from serving.presentation.schemas.translate import read
from serving.presentation.state import ServerState

ABORTED = "whoever runs this server has ended the request"


def admin_blueprint(state: ServerState) -> Blueprint:
    """Routes under /admin."""
    routes = Blueprint("admin", __name__, url_prefix="/admin")

    @routes.get("/policy")
    def show_policy() -> Response:
        """Which policies there are, and which one each engine runs."""
        return jsonify(policies_json(state.catalog.engines()))

    @routes.post("/policy")
    def change_policy() -> Response:
        """{"policy": NAME, "model": optional}: takes effect with the next step; requests in flight go on."""
        asked = read(PolicyRequest, read_json(request))
        models = state.catalog.engines() if asked.model is None else [state.catalog.get(asked.model)]
        for one in models:
            one.engine.swap_policy(asked.policy)
        return jsonify(policies_json(models))

    @routes.get("/requests")
    def show_requests() -> Response:
        """What waits and runs, of all tenants."""
        return jsonify(object="list", data=[request_json(model, one) for model, one in unfinished(state)])

    @routes.post("/abort")
    def abort() -> Response:
        """{"id": ID} of an answer (all its choices) or of one request in the engine, or {"all": true}."""
        asked = read(AbortRequest, read_json(request))
        if (asked.id is None) == (not asked.all):
            raise InvalidRequest('send either "id" or "all": true', param="id")
        doomed = [(model, one.id) for model, one in unfinished(state) if asked.all or is_part(one.id, asked.id)]
        if not doomed and not asked.all:
            raise NoSuchRequest(f'no request "{asked.id}" waits or runs: GET /admin/requests lists them', param="id")
        for model, name in doomed:
            model.engine.cancel(name, ABORTED)
        return jsonify(aborted=[name for _, name in doomed])

    @routes.post("/drain")
    def drain() -> tuple[Response, int]:
        """Take nothing new and finish what there is; /readyz says so. There is no way back but a restart."""
        read(DrainRequest, read_json(request))
        state.refuse()
        return jsonify(status="draining", unfinished=len(unfinished(state))), 202

    return routes


def unfinished(state: ServerState) -> list[tuple[ServedModel, RunningRequest]]:
    """All requests of all engines, those of versions that have been replaced included."""
    models = [*state.catalog.engines(), *state.catalog.retiring()]
    return [(model, one) for model in models for one in model.engine.unfinished()]


def is_part(request_id: str, wanted: str | None) -> bool:
    """Whether a request in the engine is the one that is wanted, or a choice of that answer: its id and a number.

    The id of a response is written with an underscore where that of its request has a hyphen.
    """
    wanted = wanted and re.sub("^resp_", "resp-", wanted)
    return request_id == wanted or request_id.rpartition("-")[0] == wanted


def request_json(model: ServedModel, running: RunningRequest) -> dict[str, Any]:
    """One request; `age` in seconds."""
    return {"model": model.name, **asdict(running)}


def policies_json(models: list[ServedModel]) -> dict[str, Any]:
    """The names to choose from, and the current choice of each model."""
    return {
        "policies": policy_names(),
        "models": [{"model": model.name, "policy": model.engine.stats().policy} for model in models],
    }
