"""Every field of a chat request does what it says or is refused: none is ignored, and none is missing from this table."""

from dataclasses import replace

import pytest
from scripted_engine import Catalog, scripted_model

from serving.domain.grammar import Grammar
from serving.domain.request import SamplingParams
from serving.presentation.app import create_app
from serving.presentation.schemas.chat import ChatCompletionRequest

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
PLAIN = SamplingParams(max_tokens=1024, stop_token_ids=frozenset({258}))


def ask(**body):
    """The answer, and what the engine was asked for."""
    model = scripted_model("a b c")
    response = create_app(Catalog(model)).test_client().post("/v1/chat/completions", json={"messages": HELLO, **body})
    return response, model.engine.requests


SAMPLED = {
    "temperature": (0.5, {"temperature": 0.5}),
    "top_p": (0.5, {"top_p": 0.5}),
    "top_k": (5, {"top_k": 5}),
    "min_p": (0.1, {"min_p": 0.1}),
    "repetition_penalty": (1.5, {"repetition_penalty": 1.5}),
    "presence_penalty": (1.5, {"presence_penalty": 1.5}),
    "frequency_penalty": (-1.5, {"frequency_penalty": -1.5}),
    "logit_bias": ({"65": 5}, {"logit_bias": {65: 5.0}}),
    "max_tokens": (7, {"max_tokens": 7}),
    "max_completion_tokens": (7, {"max_tokens": 7}),
    "min_tokens": (3, {"min_tokens": 3}),
    "stop_token_ids": ([65], {"stop_token_ids": frozenset({65, 258})}),
    "ignore_eos": (True, {"stop_token_ids": frozenset()}),
    "seed": (5, {"seed": 5}),
    "logprobs": (True, {"logprobs": 0}),
    "response_format": ({"type": "json_object"}, {"grammar": Grammar("json_schema", '{"type": "object"}')}),
    "structured_outputs": ({"regex": "a+"}, {"grammar": Grammar("regex", "a+")}),
}
"""Field: a value, and what it changes about how the engine samples."""


@pytest.mark.parametrize("field", SAMPLED)
def test_a_sampling_field_reaches_the_engine(field):
    value, change = SAMPLED[field]
    response, (request,) = ask(**{field: value})
    assert response.status_code == 200
    assert request.sampling == replace(PLAIN, **change)


SEEN = {
    "messages": (HELLO[:1] * 2, lambda response, requests: len(requests[0].prompt_tokens) > 20),
    "model": ("production", lambda response, requests: response.json["model"] == "parrot"),
    "stream": (True, lambda response, requests: response.mimetype == "text/event-stream"),
    "n": (2, lambda response, requests: len(requests) == len(response.json["choices"]) == 2),
    "stop": ("b", lambda response, requests: response.json["choices"][0]["message"]["content"] == "a "),
    "priority": (4, lambda response, requests: requests[0].priority == 4),
    "metadata": ({"a": "b"}, lambda response, requests: response.json["metadata"] == {"a": "b"}),
    "add_generation_prompt": (False, lambda response, requests: response.status_code == 200),
    "continue_final_message": (True, lambda response, requests: not bytes(requests[0].prompt_tokens).endswith(b"\n")),
    "chat_template_kwargs": (
        {"opening": True},
        lambda response, requests: bytes(requests[0].prompt_tokens).endswith(b"assistant: "),
    ),
    "tools": ([TOOL], lambda response, requests: response.status_code == 200),
    "tool_choice": ("auto", lambda response, requests: response.status_code == 200),
    "modalities": (["text"], lambda response, requests: response.json["choices"][0]["message"]["content"]),
    "parallel_tool_calls": (False, lambda response, requests: response.status_code == 200),
}


@pytest.mark.parametrize("field", SEEN)
def test_a_field_does_what_it_says(field):
    value, shows = SEEN[field]
    response, requests = ask(**{field: value})
    assert response.status_code == 200, response.text
    assert shows(response, requests)


NEEDS = {
    "stream_options": ({"include_usage": True}, "stream_options"),
    "top_logprobs": (2, "top_logprobs"),
}
"""These work only beside another field."""


@pytest.mark.parametrize("field", NEEDS)
def test_a_field_alone_that_means_nothing_is_refused(field):
    value, param = NEEDS[field]
    response, requests = ask(**{field: value})
    assert (response.status_code, response.json["error"]["param"], requests) == (400, param, [])
    beside = {"stream": True} if field == "stream_options" else {"logprobs": True}
    assert ask(**{field: value}, **beside)[0].status_code == 200


LABELS = ("user", "safety_identifier", "prompt_cache_key")


@pytest.mark.parametrize("field", LABELS)
def test_a_label_changes_nothing(field):
    response, (request,) = ask(**{field: "me"})
    assert response.status_code == 200 and request.sampling == PLAIN and request.tenant == "default"
    assert ask(**{field: 5})[0].json["error"]["param"] == field


REFUSED = {
    "store": True,
    "service_tier": "flex",
    "functions": [{}],
    "function_call": "auto",
    "prediction": {},
    "reasoning_effort": "low",
    "verbosity": "low",
    "web_search_options": {},
}
"""What this server does not do."""


@pytest.mark.parametrize("field", REFUSED)
def test_an_unsupported_field_is_refused(field):
    response, requests = ask(**{field: REFUSED[field]})
    assert (response.status_code, response.json["error"]["param"], requests) == (400, field, [])
    assert "not supported" in response.json["error"]["message"]


SPOKEN = ("audio",)
"""tests/serving/speech/test_spoken_chat.py has it."""


def test_the_table_is_complete():
    assert {*SPOKEN, *SAMPLED, *SEEN, *NEEDS, *LABELS, *REFUSED} == set(ChatCompletionRequest.model_fields)


def test_an_unknown_field_names_its_near_miss():
    for body, hint in (({"temprature": 1}, "temperature"), ({"messages": [{**HELLO[0], "nme": "x"}]}, "name")):
        assert f'Did you mean "{hint}"?' in ask(**body)[0].json["error"]["message"]
