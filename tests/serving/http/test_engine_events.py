"""/engine/events through a real server: it shows a real engine's work, frees its place, and asks for the key."""

from __future__ import annotations

import json
import threading
import time

import httpx
from scripted_engine import Catalog as ScriptedCatalog
from scripted_engine import scripted_model

from serving.domain.blocks import BlockMap
from serving.presentation.app import create_app
from serving.presentation.engine_events import FEWEST_BLOCKS, MAX_CELLS, cells
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

TOKENS = 64  # which fill blocks of the cache


def read(stream: httpx.Response):
    """(name, data) of every event."""
    name = "message"
    for line in stream.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


def ask(url: str) -> None:
    body = {"messages": [{"role": "user", "content": "fox"}], "max_tokens": TOKENS, "ignore_eos": True}
    httpx.post(url + "/v1/chat/completions", json=body, timeout=30).raise_for_status()


def decoded(bars, number) -> int:
    """Tokens of a request's decode bars."""
    return sum(bar[5] for bar in bars if bar[1:3] == [number, "d"])


def test_a_request_is_seen_from_arrival_to_end(server, catalog):
    (model,) = catalog.all()
    arrivals, bars, ends, maps = [], [], [], []
    with httpx.stream("GET", server.url + "/engine/events", timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        events = read(stream)
        name, snapshot = next(events)
        assert (name, snapshot["model"]) == ("snapshot", "tiny")
        asking = threading.Thread(target=ask, args=(server.url,))
        asking.start()
        number, deadline = None, time.monotonic() + 10  # a bound, never waited out
        for name, data in events:
            if name == "frame":
                arrivals += data["arrivals"]
                bars += data["bars"]
                ends += data["ends"]
            elif any(end[0] == number and end[2] == TOKENS for end in ends):
                maps.append(data)
            number = arrivals[-1][0] if arrivals else None
            # An end is told before the step that brought it: the last bar may be in the next frame.
            if maps and decoded(bars, number) == TOKENS - 1 or time.monotonic() > deadline:
                break
        asking.join()
    mine = [bar for bar in bars if bar[1] == number]
    assert mine[0][2] == "p" and {bar[2] for bar in mine} == {"p", "d"}
    assert decoded(bars, number) == TOKENS - 1  # the prefill brought the first
    assert maps[0]["total"] == model.engine.stats().kv_total
    assert -1 in maps[-1]["cells"]


def until_nobody_watches(watch) -> None:
    deadline = time.monotonic() + 10  # a bound, never waited out
    while watch.viewers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert watch.viewers == 0


def test_a_viewer_who_leaves_gives_the_place_back(server, catalog):
    watch = catalog.all()[0].watch
    until_nobody_watches(watch)
    with httpx.stream("GET", server.url + "/engine/events?model=production", timeout=10) as stream:
        next(read(stream))
        assert watch.viewers == 1
    until_nobody_watches(watch)


def test_a_server_that_drains_ends_the_streams(catalog):
    app = create_app(catalog, HttpConfig())
    with run_in_thread(app) as local, httpx.stream("GET", local.url + "/engine/events", timeout=10) as stream:
        events = read(stream)
        next(events)
        app.extensions["serving"].draining.set()
        assert [name for name, _ in events if name not in ("frame", "blocks")] == []  # and they come to an end


def test_wrong_questions_are_refused(catalog):
    client = create_app(catalog).test_client()
    unknown = client.get("/engine/events?model=nobody")
    assert (unknown.status_code, unknown.json["error"]["param"]) == (404, "model")
    stray = client.get("/engine/events?modell=tiny")
    assert (stray.status_code, stray.json["error"]["param"]) == (400, "modell")
    scripted = create_app(ScriptedCatalog(scripted_model("hi"))).test_client().get("/engine/events")
    assert (scripted.status_code, scripted.json["error"]["param"]) == (400, "model")
    locked = create_app(catalog, HttpConfig(api_key="secret")).test_client()
    assert locked.get("/engine/events").status_code == 401


def test_the_map_tells_free_cached_shared_and_owned_blocks_apart():
    found = BlockMap((2, 1, 0, 1, 0), (2,), {"a": (0, 1), "b": (0, 3)})
    assert cells(found, {"a": 4, "b": 5}) == {"shown": 5, "per_cell": 1, "cells": [-3, 4, -1, 5, -2]}


def test_a_large_pool_is_shown_as_far_as_it_was_touched_and_in_few_cells():
    references = [0] * 100_000
    assert cells(BlockMap(tuple(references), (), {}), {})["shown"] == FEWEST_BLOCKS
    references[5000] = 1
    drawn = cells(BlockMap(tuple(references), (), {"a": (5000,)}), {"a": 7})
    assert drawn["shown"] == 8192 and len(drawn["cells"]) <= MAX_CELLS
    assert drawn["cells"][5000 // drawn["per_cell"]] == 7
