"""Whatever a client sends, a mistake of the client is a 4xx in OpenAI's shape that names the field; never a 5xx."""

import io
import json

import pytest
from scripted_engine import Catalog, scripted_model

from serving.presentation.app import create_app
from serving.presentation.state import HttpConfig

HELLO = [{"role": "user", "content": "hello"}]
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def client():
    return create_app(Catalog(scripted_model("hello")), HttpConfig(max_body_bytes=100_000)).test_client()


def check_error(response, status, param=None):
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    error = response.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] and len(error["message"]) < 500
    if param is not None:
        assert error["param"] == param, error
    return error


CHAT = [
    ("messages", {"messages": None}),
    ("messages", {"messages": []}),
    ("messages", {"messages": "hello"}),
    ("messages", {"messages": {}}),
    ("messages[0]", {"messages": [None]}),
    ("messages[0]", {"messages": [[[None]]]}),
    ("messages[0].role", {"messages": [{}]}),
    ("messages[0].role", {"messages": [{"role": "wizard", "content": "x"}]}),
    ("messages[0].role", {"messages": [{"role": ["user"], "content": "x"}]}),
    ("messages[0].content", {"messages": [{"role": "user"}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": None}]}),
    ("messages[0].content", {"messages": [{"role": "user", "content": 5}]}),
    ("messages[0].content", {"messages": [{"role": "assistant", "content": None}]}),
    ("messages[0].content[0]", {"messages": [{"role": "user", "content": ["x"]}]}),
    ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [{"text": "x"}]}]}),
    ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [{"type": "smell"}]}]}),
    ("messages[0].content[0].input_audio", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}),
    ("messages[0].content[0].text", {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}),
    ("messages[1].colour", {"messages": [*HELLO, {"role": "user", "content": "x", "colour": "red"}]}),
    ("messages[0].tool_call_id", {"messages": [{"role": "tool", "content": "x"}]}),
    ("messages[0].tool_calls", {"messages": [{"role": "assistant", "tool_calls": {}}]}),
    ("messages[0].tool_calls[0]", {"messages": [{"role": "assistant", "tool_calls": [None]}]}),
    ("messages[0].tool_calls[0].function", {"messages": [{"role": "assistant", "tool_calls": [{"id": "c"}]}]}),
    (
        "messages[0].tool_calls[0].function.arguments",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
    ),
    (
        "messages[0].tool_calls[0].function.arguments",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}]},
    ),
    (
        "messages[0].tool_calls[0].function.arguments",
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": '{"q": "\\ud83d"}'}}]}]},
    ),
    ("messages", {"messages": [{"role": "user", "content": "break the template"}]}),
    ("messages", {"messages": [{"role": "user", "content": "x" * 5000}]}),
    ("model", {"model": 5}),
    ("stream", {"stream": "yes"}),
    ("stream", {"stream": 1}),
    ("stream_options", {"stream_options": {"include_usage": True}}),
    ("stream_options.include_usage", {"stream": True, "stream_options": {"include_usage": "x"}}),
    ("stream_options.color", {"stream": True, "stream_options": {"color": 1}}),
    ("stream_options", {"stream": True, "stream_options": []}),
    ("temperature", {"temperature": -0.1}),
    ("temperature", {"temperature": 2.1}),
    ("temperature", {"temperature": "0.5"}),
    ("temperature", {"temperature": True}),
    ("temperature", {"temperature": 10**400}),
    ("temperature", {"temperature": [0.5]}),
    ("top_p", {"top_p": 0}),
    ("top_p", {"top_p": 1.01}),
    ("top_k", {"top_k": -2}),
    ("top_k", {"top_k": 1.5}),
    ("top_k", {"top_k": 10**30}),
    ("max_tokens", {"max_tokens": 0}),
    ("max_tokens", {"max_tokens": -1}),
    ("max_tokens", {"max_tokens": 10**100}),
    ("max_tokens", {"max_tokens": 100_000}),
    ("max_tokens", {"max_tokens": "10"}),
    ("max_completion_tokens", {"max_completion_tokens": 0}),
    ("max_completion_tokens", {"max_completion_tokens": 1_000_000}),
    ("max_tokens", {"max_tokens": 1_000_000}),
    ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}),
    ("stop", {"stop": ""}),
    ("stop[1]", {"stop": ["a", ""]}),
    ("stop", {"stop": ["a"] * 5}),
    ("stop[0]", {"stop": [1]}),
    ("stop", {"stop": {"a": 1}}),
    ("stop", {"stop": "x" * 5000}),
    ("seed", {"seed": 2**64}),
    ("seed", {"seed": 1.5}),
    ("seed", {"seed": "1"}),
    ("n", {"n": 0}),
    ("n", {"n": -1}),
    ("n", {"n": 1000}),
    ("n", {"n": 1.5}),
    ("logprobs", {"logprobs": 1}),
    ("top_logprobs", {"top_logprobs": 3}),
    ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
    ("tools", {"tools": {}}),
    ("tools[0]", {"tools": ["f"]}),
    ("tools[0].type", {"tools": [{}]}),
    ("tools[0].function", {"tools": [{"type": "function"}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {}}]}),
    ("tools[0].function.name", {"tools": [{"type": "function", "function": {"name": "two words"}}]}),
    ("tools[0].function.parameters", {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}),
    ("tool_choice", {"tool_choice": 3}),
    ("frequency_penalty", {"frequency_penalty": 2.5}),
    ("presence_penalty", {"presence_penalty": "much"}),
    ("repetition_penalty", {"repetition_penalty": 0}),
    ("min_p", {"min_p": 1.5}),
    ("priority", {"priority": "high"}),
    ("logit_bias", {"logit_bias": [5]}),
    ("logit_bias", {"logit_bias": {"hello": 1}}),
    ("logit_bias.5", {"logit_bias": {"5": 101}}),
    ("logit_bias.5", {"logit_bias": {"5": "1"}}),
    ("stop_token_ids[0]", {"stop_token_ids": [1.5]}),
    ("stop_token_ids", {"stop_token_ids": 7}),
    ("response_format.type", {"response_format": {"type": "yaml"}}),
    ("parallel_tool_calls", {"parallel_tool_calls": "no"}),
    ("temprature", {"temprature": 0.5}),
    ("prompt", {"prompt": "hello"}),
]


@pytest.mark.parametrize(("param", "change"), CHAT, ids=lambda value: str(value)[:60])
def test_a_bad_chat_request_names_the_field(client, param, change):
    error = check_error(client.post("/v1/chat/completions", json={"messages": HELLO, **change}), 400, param)
    assert error["type"] == "invalid_request_error"


TEXT = [
    ("prompt", {"prompt": None}),
    ("prompt", {"prompt": ""}),
    ("prompt", {"prompt": []}),
    ("prompt", {"prompt": [""]}),
    ("prompt", {"prompt": [[]]}),
    ("prompt", {"prompt": [1.5]}),
    ("prompt", {"prompt": [-1]}),
    ("prompt", {"prompt": [True]}),
    ("prompt", {"prompt": [None]}),
    ("prompt", {"prompt": ["a", 1]}),
    ("prompt", {"prompt": {"a": 1}}),
    ("prompt", {"prompt": [2**40]}),
    ("prompt", {"prompt": "x" * 5000}),
    ("n", {"prompt": ["x"] * 20, "n": 2}),
    ("logprobs", {"logprobs": True}),
    ("logprobs", {"logprobs": 21}),
    ("echo", {"echo": "yes"}),
    ("best_of", {"best_of": 2}),
    ("suffix", {"suffix": "end"}),
    ("messages", {"messages": HELLO}),
]


@pytest.mark.parametrize(("param", "change"), TEXT, ids=lambda value: str(value)[:60])
def test_a_bad_completion_request_names_the_field(client, param, change):
    check_error(client.post("/v1/completions", json={"prompt": "hello", **change}), 400, param)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b'{"messages": "\xff"}',
        '{"messages": []}'.encode("utf-16"),
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"temperature": NaN, "messages": [{"role": "user", "content": "x"}]}',
        b'{"temperature": Infinity, "messages": [{"role": "user", "content": "x"}]}',
        b'{"temperature": 1e999, "messages": [{"role": "user", "content": "x"}]}',
        b'{"seed": ' + b"1" * 5000 + b', "messages": [{"role": "user", "content": "x"}]}',
        b"[" * 50_000,
        b'{"tools": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"tools": ' + b'{"a":' * 500 + b"1" + b"}" * 501,
    ],
    ids=lambda raw: repr(raw[:40]),
)
@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/completions"])
def test_a_body_that_is_no_json_object_is_a_400(client, route, raw):
    check_error(client.post(route, data=raw, content_type="application/json"), 400)


def test_the_wrong_content_type_is_a_415(client):
    check_error(client.post("/v1/chat/completions", data="{}", content_type="text/plain"), 415)
    check_error(client.post("/v1/chat/completions", data="{}"), 415)


def test_a_body_that_is_too_large_is_a_413(client):
    check_error(client.post("/v1/completions", json={"prompt": "x" * 200_000}), 413)


def test_a_body_in_chunks_is_not_cut_off_at_the_limit(client):
    body = json.dumps({"prompt": "x"}).encode() + b" " * 200_000
    environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    options = {"content_type": "application/json", "environ_overrides": environ}
    check_error(client.post("/v1/completions", **options), 413)
    environ["wsgi.input"] = io.BytesIO(body[:90_000])
    assert client.post("/v1/completions", **options).status_code == 200


def test_unknown_addresses_and_methods_are_json_errors(client):
    check_error(client.get("/v1/nothing"), 404)
    check_error(client.get("/nothing"), 404)
    check_error(client.get("/static/../app.py"), 404)
    response = client.get("/v1/chat/completions")
    check_error(response, 405)
    assert "POST" in response.headers["Allow"]
    check_error(client.delete("/v1/models"), 405)


def test_an_unknown_model_is_a_404_that_names_what_is_served(client):
    for route, body in (("chat/completions", {"messages": HELLO}), ("completions", {"prompt": "x"})):
        error = check_error(client.post(f"/v1/{route}", json={"model": "gpt-9", **body}), 404, "model")
        assert error["code"] == "model_not_found"
        assert "parrot" in error["message"]
    check_error(client.get("/v1/models/gpt-9"), 404)


def test_a_key_is_asked_for_and_compared():
    client = create_app(Catalog(scripted_model("hello")), HttpConfig(api_key="sécret")).test_client()
    body = {"messages": HELLO}
    for header in (None, "Bearer", "Bearer wrong", "Basic sécret", "sécret"):
        headers = {"Authorization": header} if header else {}
        response = client.post("/v1/chat/completions", json=body, headers=headers)
        assert check_error(response, 401)["code"] == "invalid_api_key"
        assert client.get("/v1/models", headers=headers).status_code == 401
    assert client.get("/health").status_code == 200
    right = {"Authorization": "Bearer " + "sécret".encode().decode("latin-1")}
    assert client.post("/v1/chat/completions", json=body, headers=right).status_code == 200


def test_every_harmless_default_is_accepted(client):
    body = {
        "messages": HELLO,
        "model": "parrot",
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "store": False,
        "user": "me",
        "n": 1,
        "stop": None,
        "seed": None,
        "top_k": -1,
        "max_tokens": 5.0,
        "max_completion_tokens": 5,
        "stream_options": None,
    }
    assert client.post("/v1/chat/completions", json=body).status_code == 200


def test_a_good_history_is_accepted(client):
    messages = [
        {"role": "system", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "assistant", "content": "42", "refusal": None},
        {"role": "developer", "content": "be kind", "name": "boss"},
    ]
    response = client.post("/v1/chat/completions", json={"messages": messages, "tools": [TOOL]})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("value", [None, True, 0, -1, 1.5, 10**40, "", "x", [], [None], {}, {"a": [{}]}], ids=repr)
def test_no_value_of_any_field_is_a_server_error(client, value):
    names = [
        "model", "messages", "stream", "stream_options", "temperature", "top_p", "top_k", "max_tokens", "min_tokens",
        "max_completion_tokens", "stop", "seed", "n", "logprobs", "top_logprobs", "tools", "tool_choice", "user",
        "echo", "prompt", "best_of", "suffix", "logit_bias", "metadata", "response_format", "audio", "min_p",
        "repetition_penalty", "presence_penalty", "frequency_penalty", "stop_token_ids", "priority", "ignore_eos",
    ]  # fmt: skip
    for name in names:
        for route, base in (("chat/completions", {"messages": HELLO}), ("completions", {"prompt": "x"})):
            response = client.post(
                f"/v1/{route}", data=json.dumps({**base, name: value}), content_type="application/json"
            )
            assert response.status_code in (200, 400, 404), (name, route, response.text)
