"""GET /engine/events: what one engine does, as server-sent events for as long as somebody looks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, request

from serving.application.ports import ServedModel
from serving.application.watch import Viewer
from serving.domain.blocks import BlockMap
from serving.domain.errors import Draining, InvalidRequest
from serving.presentation.body import read_query
from serving.presentation.operations import stats_json
from serving.presentation.peer import Peer
from serving.presentation.state import ServerState
from serving.presentation.streaming import PING, dump, events_response

FRAME_SECONDS = 0.1
MAP_SECONDS = 0.5  # the map costs the engine a moment between two steps, and only while somebody looks
MAX_CELLS = 1024
FEWEST_BLOCKS = 128


def engine_blueprint(state: ServerState) -> Blueprint:
    """Routes under /engine, for admins."""
    routes = Blueprint("engine", __name__, url_prefix="/engine")

    @routes.get("/events")
    def events() -> Response:
        """?model=NAME: one `snapshot`, then a `frame` at most ten times a second and a `blocks` at most twice."""
        model = state.model(read_query(request, "model")["model"])
        if model.watch is None:
            raise InvalidRequest(f'the engine of "{model.name}" cannot be watched', param="model")
        viewer = model.watch.open()
        response = events_response(follow_engine(state, model, viewer, Peer(request.environ)))
        response.call_on_close(viewer.close)  # a generator that never started has no `finally`
        return response

    return routes


def follow_engine(state: ServerState, model: ServedModel, viewer: Viewer, peer: Peer) -> Iterator[bytes]:
    """Frames until the client leaves, the model is unloaded, or the server closes."""
    yield event("snapshot", stats_json(model))
    wrote = mapped = 0.0
    changed = True
    while not state.draining.wait(FRAME_SECONDS) and is_served(state, model):
        now = time.monotonic()
        parts = []
        if (frame := viewer.frame()) is not None:
            changed = True
            parts.append(event("frame", frame))
        if changed and now - mapped >= MAP_SECONDS:
            mapped, changed = now, False
            if (cells := block_cells(model, viewer)) is not None:
                parts.append(event("blocks", cells))
        if parts:
            yield b"".join(parts)
            wrote = now
        elif now - wrote >= state.config.ping_seconds:
            yield PING
            wrote = now
        if peer.gone():
            return


def is_served(state: ServerState, model: ServedModel) -> bool:
    """Whether its engine still is; an adapter that was taken from it leaves its work to see."""
    return any(one.engine is model.engine for one in state.catalog.engines())


def block_cells(model: ServedModel, viewer: Viewer) -> dict[str, Any] | None:
    """The KV pool in at most MAX_CELLS cells; None when the engine has no moment for the question.

    A cell is -2 (free), -1 (cached), or the lane of the sequence that has it; -3 marks one that several share.
    """
    try:
        found = model.engine.block_map()
    except (Draining, TimeoutError):
        return None
    return {"total": len(found.references), **cells(found, viewer.lanes())}


def cells(found: BlockMap, lanes: dict[str, int]) -> dict[str, Any]:
    """`per_cell` neighbouring blocks to a cell, which shows the one of them that is in use, or else cached.

    Blocks are taken from the front, and a large pool is mostly untouched: only the first `shown`, a power of two that has
    room for every touched one, are worth a picture.
    """
    states = [-2] * len(found.references)
    for block in found.cached:
        states[block] = -1
    for name, table in found.tables.items():
        for block in table:
            states[block] = lanes.get(name, 0) if found.references[block] == 1 else -3
    touched = max((at + 1 for at, state in enumerate(states) if state != -2), default=0)
    del states[max(FEWEST_BLOCKS, 1 << touched.bit_length()) :]
    per_cell = -(-len(states) // MAX_CELLS)
    grouped = [states[at : at + per_cell] for at in range(0, len(states), per_cell)]
    return {"shown": len(states), "per_cell": per_cell, "cells": [_telling(group) for group in grouped]}


def _telling(group: list[int]) -> int:
    lanes = [state for state in group if state >= 0]
    return lanes[0] if lanes else min(group, key=(-3, -1, -2).index)


def event(name: str, data: Any) -> bytes:
    """One server-sent event."""
    return f"event: {name}\ndata: {dump(data)}\n\n".encode()
