"""/v1/responses: create, stream, retrieve, cancel, delete."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial

from flask import Blueprint, Response, g, jsonify, request

from serving.application.chat import GenerateChat
from serving.domain.errors import InvalidRequest, QueueFull, ServingError
from serving.presentation.body import read_json, read_query
from serving.presentation.guard import outlive
from serving.presentation.metrics import Meter
from serving.presentation.peer import Peer
from serving.presentation.response_record import ResponseRecord, ResponseShelf
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.schemas.translate import read
from serving.presentation.seeing import large_body, look
from serving.presentation.state import ServerState
from serving.presentation.streaming import ClientGone, event_stream, follow, raise_failure, stream_response

log = logging.getLogger(__name__)

TOOL = re.compile(r"^(tools\[\d+\])\.function\.")
"""Of a chat; here a function is described one level higher."""


def responses_blueprint(state: ServerState) -> Blueprint:
    """Routes over one shelf of stored responses, which ends with the process."""
    routes = Blueprint("responses", __name__, url_prefix="/v1/responses")
    shelf = ResponseShelf()

    @routes.post("")
    def create() -> Response:
        return create_response(state, shelf)

    @routes.get("/<response_id>")
    def retrieve(response_id: str) -> Response:
        """A stored response as it is now."""
        tenant = state.tenant(request)
        if read_query(request, "stream")["stream"] not in (None, "false"):
            raise InvalidRequest("a stored response is not streamed: retrieve it again until it is done", param="stream")
        record = shelf.get(response_id, tenant)
        g.answering = record.version
        return jsonify(record.json())

    @routes.post("/<response_id>/cancel")
    def cancel(response_id: str) -> Response:
        """Stop computing a response; one that is done stays as it is."""
        record = shelf.get(response_id, state.tenant(request))
        g.answering = record.version
        if record.status == "in_progress":
            record.cancel()
        body = record.json()
        return jsonify(body | {"status": "cancelled"} if body["status"] == "in_progress" else body)

    @routes.delete("/<response_id>")
    def delete(response_id: str) -> Response:
        """Forget a response; one that is being computed is given up."""
        record = shelf.remove(response_id, state.tenant(request))
        if record.status == "in_progress":
            record.cancel()
        return jsonify({"id": response_id, "object": "response", "deleted": True})

    return routes


def create_response(state: ServerState, shelf: ResponseShelf) -> Response:
    """Admission happens before there is a response, so a refusal still has its own status."""
    tenant = state.tenant(request)
    with large_body(state, request):
        asked, previous, command = _understood(state, shelf, tenant)
    with tools_are_functions():
        generation = state.start(partial(command.start, kind="resp"), asked.model)
    del command
    record = ResponseRecord(asked, generation, previous)
    if asked.store:
        try:
            shelf.put(record, tenant)
        except QueueFull:
            generation.cancel()
            raise
    peer, meter = Peer({} if asked.background else request.environ), state.meter(generation)
    if asked.background:
        begun, done = record.json(), outlive()

        def go_on() -> None:
            try:
                fill(record, peer, meter, state)
            finally:
                done()

        threading.Thread(target=go_on, daemon=True).start()
        return jsonify(begun)
    if asked.stream:
        events = event_stream(generation, peer, meter, state.config, record, record.opening(), record.take)
        response = stream_response(generation, meter, events)
        response.call_on_close(record.abandon)
        return response
    if error := fill(record, peer, meter, state):
        raise error
    return jsonify(record.json())


@contextmanager
def tools_are_functions() -> Iterator[None]:
    """What is refused of a tool is called what this request calls it, and not what a chat would."""
    try:
        yield
    except InvalidRequest as error:
        error.param = error.param and TOOL.sub(r"\1.", error.param)
        raise


def _understood(
    state: ServerState, shelf: ResponseShelf, tenant: str
) -> tuple[ResponseRequest, ResponseRecord | None, GenerateChat]:
    """What is asked, what it goes on from, and the use case."""
    asked = read(ResponseRequest, read_json(request))
    previous = None
    if asked.previous_response_id is not None:
        previous = shelf.get(asked.previous_response_id, tenant, "previous_response_id")
        if previous.status == "in_progress":
            raise InvalidRequest("that response is not done yet", param="previous_response_id")
    history, seen = (previous.conversation, previous.sources) if previous else ([], [])
    command = asked.command(history, tenant, look(state, asked.model, [*seen, *asked.sources()]))
    return asked if asked.store else asked.without_input(), previous, command


def fill(record: ResponseRecord, peer: Peer, meter: Meter, state: ServerState) -> ServingError | None:
    """Follow a generation to its end; the error that it ended with. Raises `ClientGone`."""
    try:
        with closing(follow(record.generation, peer, meter, state.config.tick_seconds)) as updates:
            for deltas in updates:
                raise_failure(deltas)
                for delta in deltas:
                    record.take(delta)
    except ClientGone:
        record.abandon()
        raise
    except ServingError as error:
        record.fail(error)
        return None if record.cancelled else error
    except Exception:
        log.exception("a response broke")
        error = ServingError("the server made a mistake; its log has the details")
        record.fail(error)
        return error
    return None
