"""Answers of a scripted engine: what no random model says (tool calls, errors, refusals), streamed and not."""

import dataclasses
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_engine import Catalog, scripted_model

from serving.application.canary import Canary, Trial
from serving.domain.canary import CanaryRules
from serving.presentation.app import create_app

HELLO = [{"role": "user", "content": "hello"}]
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'


def ask(served, stream=False, route="chat/completions", **body):
    base = {"messages": HELLO} if route.startswith("chat") else {"prompt": "hello"}
    return create_app(Catalog(served)).test_client().post(f"/v1/{route}", json={**base, "stream": stream, **body})


def events(response):
    """The data of each event; checks the framing on the way."""
    *blocks, rest = response.get_data().split(b"\n\n")
    assert rest == b""
    assert all(block.startswith((b"data: ", b": ")) and b"\n" not in block for block in blocks)
    data = [block[6:] for block in blocks if block.startswith(b"data: ")]
    assert data.pop() == b"[DONE]"
    return [json.loads(one) for one in data]


def joined(chunks, choice=0):
    """A streamed choice put together again the way clients do it."""
    text, calls, reason = "", [], None
    for chunk in chunks:
        for part in chunk["choices"]:
            if part["index"] != choice:
                continue
            assert reason is None, "nothing follows the finish chunk"
            reason = part["finish_reason"]
            text += part["delta"].get("content") or ""
            for call in part["delta"].get("tool_calls", []):
                if call["index"] == len(calls):
                    assert call["id"] and call["type"] == "function" and call["function"]["name"]
                    calls.append({"id": call["id"], "type": "function", "function": dict(call["function"])})
                else:
                    assert "id" not in call and "type" not in call and "name" not in call["function"]
                    calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
    return text, calls, reason


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([CALL, "sure. ", "é", "\n", "<tool_call>oops</tool_call>", "STOP", "<"]), max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.booleans(),
    st.integers(1, 200),
)
def test_a_stream_put_together_equals_the_whole_answer(pieces, sizes, special, max_tokens):
    model = scripted_model("".join(pieces), sizes, special_markers=special)
    options = {"tools": TOOLS, "stop": ["STOP", "TOP"], "max_tokens": max_tokens}
    whole = ask(model, **options).json["choices"][0]
    text, calls, reason = joined(events(ask(model, stream=True, **options)))
    assert text == (whole["message"]["content"] or "")
    assert reason == whole["finish_reason"]
    functions = [call["function"] for call in whole["message"].get("tool_calls", [])]
    assert [call["function"] for call in calls] == functions


def test_the_rules_of_a_stream():
    model = scripted_model("hé!" + CALL)
    chunks = events(ask(model, stream=True, tools=TOOLS, stream_options={"include_usage": True}))
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {(chunk["id"], chunk["object"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        (chunks[0]["id"], "chat.completion.chunk", chunks[0]["created"], "parrot")
    }
    *rest, finish, usage = chunks
    assert finish["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}]
    assert all(chunk["choices"][0]["finish_reason"] is None and chunk["usage"] is None for chunk in rest)
    assert usage["choices"] == []
    tokens = len(("hé!" + CALL).encode())
    assert usage["usage"]["completion_tokens"] == tokens
    assert usage["usage"]["total_tokens"] == tokens + usage["usage"]["prompt_tokens"]
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


def test_without_include_usage_no_chunk_mentions_it():
    response = ask(scripted_model("hi"), stream=True)
    assert all("usage" not in chunk for chunk in events(response))
    assert response.headers["Content-Type"].startswith("text/event-stream")
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.headers["Cache-Control"] == "no-cache"


def test_half_a_character_is_never_sent():
    chunks = events(ask(scripted_model("aé€🦊z", sizes=[1]), stream=True))
    assert "\ufffd" not in json.dumps(chunks)
    assert joined(chunks)[0] == "aé€🦊z"


def test_everything_in_the_mailbox_is_one_event():
    chunks = events(ask(scripted_model("abcdef", sizes=[4]), stream=True))
    assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == ["", "abcd", "ef", None]


def test_length_wins_over_tool_calls_when_a_call_was_cut_short():
    model = scripted_model(CALL + CALL)
    choice = ask(model, tools=TOOLS, max_tokens=len(CALL) + 12).json["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["tool_calls"]) == 1


def test_without_tools_a_call_is_text():
    for change in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        choice = ask(scripted_model(CALL), **change).json["choices"][0]
        assert choice["message"] == {"role": "assistant", "content": CALL}
        assert choice["finish_reason"] == "stop"


def test_a_stop_string_cancels_the_request_and_counts_its_tokens():
    model = scripted_model("one two three", sizes=[13])
    body = ask(model, stop=" tw").json
    assert body["choices"][0]["message"]["content"] == "one"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["completion_tokens"] == len("one tw")
    assert model.engine.cancelled == [model.engine.requests[0].id]


def test_a_stop_string_before_min_tokens_does_not_count():
    body = ask(scripted_model("a.b.c"), stop=".", min_tokens=3).json
    assert body["choices"][0]["message"]["content"] == "a.b"


def test_logprobs_cover_exactly_the_text():
    for stop, text in ((None, "abcd"), ("cd", "ab"), ("b", "a")):
        for stream in (False, True):
            response = ask(scripted_model("abcd", sizes=[3]), stream, stop=stop, logprobs=True, top_logprobs=2)
            choices = [chunk["choices"][0] for chunk in events(response)] if stream else response.json["choices"]
            tokens = [token for choice in choices if choice["logprobs"] for token in choice["logprobs"]["content"]]
            assert [token["token"] for token in tokens] == list(text)
            assert tokens[0] == {
                "token": "a",
                "logprob": -0.5,
                "bytes": [97],
                "top_logprobs": [
                    {"token": "a", "logprob": -0.5, "bytes": [97]},
                    {"token": "A", "logprob": -1.5, "bytes": [65]},
                ],
            }


def test_completion_logprobs_have_offsets():
    choice = ask(scripted_model("aéb"), route="completions", logprobs=1).json["choices"][0]
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2]
    assert choice["logprobs"]["tokens"] == ["a", "\ufffd", "\ufffd", "b"]
    assert choice["logprobs"]["top_logprobs"][0] == {"a": -0.5}


def test_several_prompts_and_choices_are_numbered_prompt_by_prompt():
    model = scripted_model(lambda request: f"<{bytes(request.prompt_tokens).decode()}>")
    body = {"prompt": ["p", "q"], "n": 2, "echo": True, "route": "completions", "seed": 2**63 - 1}
    whole = ask(model, **body).json
    assert [choice["text"] for choice in whole["choices"]] == ["p<p>", "p<p>", "q<q>", "q<q>"]
    assert whole["usage"]["prompt_tokens"] == 2
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 6
    assert [request.sampling.seed for request in model.engine.requests] == [2**63 - 1, 0] * 2
    texts = ["", "", "", ""]
    for chunk in events(ask(model, stream=True, **body)):
        texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
    assert texts == ["p<p>", "p<p>", "q<q>", "q<q>"]


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
def test_a_priority_reaches_every_request_and_is_0_unless_said(route):
    model = scripted_model("!")
    body = {"messages": [{"role": "user", "content": "x"}]} if route != "completions" else {"prompt": "x"}
    ask(model, route=route, priority=-3, n=2, **body)
    ask(model, route=route, **body)
    assert [request.priority for request in model.engine.requests] == [-3, -3, 0]


def test_token_ids_are_a_prompt():
    model = scripted_model("!")
    assert ask(model, route="completions", prompt=[104, 105]).json["usage"]["prompt_tokens"] == 2
    assert len(ask(model, route="completions", prompt=[[104], [105]]).json["choices"]) == 2
    assert ask(model, route="completions", prompt=[104, 105], echo=True).json["choices"][0]["text"] == "hi!"


@pytest.mark.parametrize("route", ["chat/completions", "completions"])
def test_an_engine_error_is_a_500_or_an_error_event(route):
    model = scripted_model("ab")
    model.engine.error = 'step failed:\n"shape"'
    response = ask(model, route=route)
    assert response.status_code == 500
    assert response.json["error"]["message"] == model.engine.error
    *_, last = events(ask(model, stream=True, route=route))
    assert last["error"]["message"] == model.engine.error
    assert last["error"]["type"] == "server_error"


def test_a_dead_engine_does_not_keep_the_client_waiting():
    model = scripted_model("ab")
    model.engine.hang, model.engine.alive = True, False
    assert ask(model).status_code == 500
    assert "error" in events(ask(model, stream=True))[-1]


def test_a_full_queue_is_a_429_before_anything_is_sent():
    for stream in (False, True):
        model = scripted_model("ab")
        model.engine.refuse_after = 2
        response = ask(model, stream, n=3)
        assert response.status_code == 429
        assert response.headers["Retry-After"] == "3"
        assert response.json["error"]["code"] == "queue_full"
        assert len(model.engine.cancelled) == 2, "the choices that were already queued are given up"


def test_a_draining_server_is_a_503():
    model = scripted_model("ab")
    app = create_app(Catalog(model))
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    assert app.extensions["serving"].drain()
    response = client.post("/v1/chat/completions", json={"messages": HELLO})
    assert response.status_code == 503
    assert response.json["error"]["code"] == "draining"
    assert "Retry-After" in response.headers
    assert client.get("/readyz").status_code == 503
    assert client.get("/health").status_code == 200


def test_health_follows_the_engines():
    model = scripted_model("ab")
    client = create_app(Catalog(model)).test_client()
    assert client.get("/health").status_code == 200
    model.engine.alive = False
    assert client.get("/health").status_code == 503


def test_a_response_that_is_dropped_before_its_first_byte_is_cancelled():
    model = scripted_model("ab")
    app = create_app(Catalog(model))
    with app.test_request_context("/v1/chat/completions", method="POST", json={"messages": HELLO, "stream": True}):
        response = app.full_dispatch_request()
    response.close()
    assert model.engine.cancelled == [model.engine.requests[0].id]


def test_the_model_may_be_named_in_every_way_or_not_at_all():
    model = scripted_model("hi")
    for name in (None, "parrot", "parrot/1", "production"):
        assert ask(model, model=name).json["model"] == "parrot"
    client = create_app(Catalog(model)).test_client()
    listed = client.get("/v1/models").json
    assert listed["object"] == "list"
    assert listed["data"][0]["id"] == "parrot"
    assert listed["data"][0]["aliases"] == ["production"]
    assert client.get("/v1/models/parrot/1").json == listed["data"][0]


def test_the_tenant_comes_from_the_key_and_never_from_the_body():
    model = scripted_model("hi")
    client = create_app(Catalog(model)).test_client()
    for headers, user in (
        ({}, "x"),
        ({}, "y"),
        ({"Authorization": "Bearer k"}, "x"),
        ({"Authorization": "Bearer l"}, "x"),
    ):
        client.post("/v1/chat/completions", json={"messages": HELLO, "user": user}, headers=headers)
    tenants = [request.tenant for request in model.engine.requests]
    assert tenants[0] == tenants[1] == "default"
    assert len(set(tenants)) == 3
    assert not any(tenant == "k" for tenant in tenants)


@pytest.mark.parametrize(("called", "result"), [(CALL, "same"), (CALL.replace("1", "2"), "different")])
def test_a_shadow_is_compared_by_what_it_calls_too(called, result):
    canary = Canary(CanaryRules(shadow_percent=100))
    canary.trial = Trial("production", dataclasses.replace(scripted_model(called), version="parrot/2", aliases=()))
    client = create_app(Catalog(scripted_model(CALL)), canary=canary).test_client()
    assert client.post("/v1/chat/completions", json={"messages": HELLO, "tools": TOOLS}).status_code == 200
    for thread in threading.enumerate():
        if thread.name == "shadow":
            thread.join(20)
    assert canary.shadows == {result: 1}


def test_metrics_are_readable_by_prometheus():
    model = scripted_model("abc")
    client = create_app(Catalog(model)).test_client()
    for _ in range(2):
        client.post("/v1/chat/completions", json={"messages": HELLO})
    response = client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    samples = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if not line.startswith("#"))
    label = 'model_name="parrot"'
    assert samples[f"serving:kv_cache_usage_perc{{{label}}}"] == "0.25"
    assert samples[f'serving:request_success_total{{{label},finished_reason="stop"}}'] == "2"
    for name in ("time_to_first_token_seconds", "e2e_request_latency_seconds"):
        assert samples[f"serving:{name}_count{{{label}}}"] == "2"
        assert samples[f'serving:{name}_bucket{{{label},le="+Inf"}}'] == "2"
    assert samples[f"serving:inter_token_latency_seconds_count{{{label}}}"] == "4"
