"""Structured output and forced tool calls over HTTP, on a tiny model that has learned nothing."""

from __future__ import annotations

import json

import jsonschema
import openai
import pytest

from serving.application import chat as chat_module
from serving.domain.grammar import ToolGrammar

HELLO = [{"role": "user", "content": "the quick fox"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


ADD = tool("add", a={"type": "integer", "maximum": 99, "minimum": 0}, b={"enum": [1, 2.5]})
SAY = tool("say", word={"type": "string", "maxLength": 4})


def chat(client, **options):
    extra = {key: options.pop(key) for key in ("structured_outputs", "ignore_eos") if key in options}
    wanted = {"model": "tiny", "messages": HELLO, "max_tokens": 200, **options}
    return client.chat.completions.create(**wanted, extra_body=extra)


def check_call(call):
    assert call.type == "function" and call.id
    parameters = {one["function"]["name"]: one["function"]["parameters"] for one in (ADD, SAY)}[call.function.name]
    jsonschema.validate(json.loads(call.function.arguments), parameters)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_schema_is_kept(client, temperature):
    form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": SCHEMA}}
    answer = chat(client, response_format=form, temperature=temperature, n=3, seed=1)
    for choice in answer.choices:
        assert choice.finish_reason == "stop"
        jsonschema.validate(json.loads(choice.message.content), SCHEMA)


def test_choices_under_a_grammar_are_those_of_requests_with_their_seeds(client):
    wanted = {"structured_outputs": {"regex": "[a-z]{8}"}, "temperature": 1.0}
    together = [choice.message.content for choice in chat(client, n=3, seed=5, **wanted).choices]
    assert together == [chat(client, seed=seed, **wanted).choices[0].message.content for seed in (5, 6, 7)]
    assert len(set(together)) == 3


@pytest.mark.parametrize(
    ("wanted", "possible"),
    [
        ({"choice": ["yes", "no", "perhaps\nnot"]}, {"yes", "no", "perhaps\nnot"}),
        ({"regex": "[ab]/c"}, {"a/c", "b/c"}),
        ({"grammar": 'start: "x" | "y" "z"'}, {"x", "yz"}),
        ({"grammar": 'root ::= "x" | "y" "z"'}, {"x", "yz"}),
        ({"json": {"enum": [[1, 2], {"k": None}]}}, {"[1, 2]", '{"k": null}'}),
        ({"json": '{"const": true}'}, {"true"}),
    ],
)
def test_other_grammars(client, wanted, possible):
    for seed in range(3):
        choice = chat(client, structured_outputs=wanted, seed=seed).choices[0]
        assert choice.message.content in possible and choice.finish_reason == "stop"


def test_completions_have_grammars_too(client):
    answer = client.completions.create(
        model="tiny", prompt="the", max_tokens=50, extra_body={"structured_outputs": {"choice": ["fox", "dog"]}}
    )
    assert answer.choices[0].text in ("fox", "dog")


def test_any_object(client):
    found = [chat(client, response_format={"type": "json_object"}, seed=seed).choices[0] for seed in range(3)]
    for choice in found:
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
        else:
            assert choice.finish_reason == "length" and choice.message.content.startswith("{")


def test_an_answer_that_is_cut_says_so(client):
    choice = chat(client, structured_outputs={"regex": "[a-z]{30}"}, max_tokens=7).choices[0]
    assert choice.finish_reason == "length" and choice.message.content.isalpha()


@pytest.mark.parametrize("temperature", [0, 1.0])
@pytest.mark.parametrize("stream", [False, True])
def test_a_required_call_is_a_call(client, temperature, stream):
    options = {"tools": [ADD, SAY], "tool_choice": "required", "temperature": temperature, "seed": 3, "max_tokens": 600}
    if not stream:
        choice = chat(client, **options).choices[0]
        assert choice.finish_reason == "tool_calls" and choice.message.content is None
        assert 1 <= len(choice.message.tool_calls) <= 16
        for call in choice.message.tool_calls:
            check_call(call)
        return
    whole = chat(client, **options).choices[0].message.tool_calls
    parts, text = {}, ""
    for chunk in chat(client, **options, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for part in delta.tool_calls or []:
            name, arguments = parts.get(part.index, ("", ""))
            parts[part.index] = (name + (part.function.name or ""), arguments + part.function.arguments)
    assert text == ""
    assert parts == {at: (call.function.name, call.function.arguments) for at, call in enumerate(whole)}


def test_a_named_tool_is_called_once(client, monkeypatch):
    held_to = []

    class Seen(ToolGrammar):
        def __init__(self, *given) -> None:
            super().__init__(*given)
            held_to.append(self)

    monkeypatch.setattr(chat_module, "ToolGrammar", Seen)
    named = {"type": "function", "function": {"name": "say"}}
    for seed in range(3):
        calls = chat(client, tools=[ADD, SAY], tool_choice=named, seed=seed).choices[0].message.tool_calls
        assert [call.function.name for call in calls] == ["say"]
        check_call(calls[0])
    assert held_to and all(grammar.forced and not grammar.parallel for grammar in held_to)
    chat(client, tools=[ADD, SAY], tool_choice="required", max_tokens=2)
    assert held_to[-1].forced and held_to[-1].parallel


def test_one_call_where_parallel_ones_are_not_wanted(client):
    for seed in range(3):
        options = {"tools": [ADD, SAY], "tool_choice": "required", "parallel_tool_calls": False, "seed": seed}
        (call,) = chat(client, **options).choices[0].message.tool_calls
        check_call(call)


def test_a_call_that_the_model_begins_itself_keeps_to_the_schema(client, catalog):
    """The random model is pushed into a call: then its name and its arguments are right, without anybody's wish."""
    tokenizer = catalog.get("tiny").tokenizer
    opening = tokenizer.vocabulary["<tool_call>"]
    stops = {str(stop): -100 for stop in tokenizer.stop_token_ids}
    for seed in range(3):
        bias = {str(opening): 12, **stops}
        options = {"tools": [ADD, SAY], "parallel_tool_calls": False, "seed": seed, "logit_bias": bias}
        calls = chat(client, **options).choices[0].message.tool_calls
        assert len(calls) == 1
        check_call(calls[0])


def test_an_answer_or_a_call(client):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    for seed in range(4):
        choice = chat(client, tools=[ADD], response_format=form, seed=seed, max_tokens=600).choices[0]
        if choice.message.tool_calls:
            check_call(choice.message.tool_calls[0])
        else:
            jsonschema.validate(json.loads(choice.message.content), SCHEMA)


def test_it_shows_in_the_metrics(client, server):
    import urllib.request

    chat(client, structured_outputs={"choice": ["one"]})
    with urllib.request.urlopen(server.url + "/metrics") as page:
        lines = dict(line.rsplit(" ", 1) for line in page.read().decode().splitlines() if not line.startswith("#"))
    for name in ("grammar_requests_total", "grammar_compile_seconds_total", "grammar_mask_seconds_total"):
        assert float(lines[f'serving:{name}{{model_name="tiny"}}']) > 0


def form(schema):
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


REFUSED = [
    ("response_format.json_schema.schema", 'unsupported keywords: ["uniqueItems"]', form({"type": "array", "uniqueItems": True})),
    ("response_format.json_schema.schema", "banana", form({"type": "banana"})),
    ("response_format.json_schema.schema", "not", form({"properties": {"a": {"not": {}}}})),
    ("response_format.json_schema.schema", "minimum", form({"type": "integer", "minimum": 5, "maximum": 3})),
    ("response_format.json_schema.schema", "array", form([])),
    ("response_format.json_schema", "missing", {"response_format": {"type": "json_schema"}}),
    ("response_format.type", "one of", {"response_format": {"type": "yaml"}}),
    ("response_format.colour", "unknown", {"response_format": {"type": "text", "colour": 1}}),
    ("structured_outputs", "exactly one", {"structured_outputs": {}}),
    ("structured_outputs", "exactly one", {"structured_outputs": {"regex": "a", "choice": ["a"]}}),
    ("structured_outputs.regx", "unknown", {"structured_outputs": {"regx": "a"}}),
    ("structured_outputs.regex", "unclosed", {"structured_outputs": {"regex": "("}}),
    ("structured_outputs.regex", "look-around", {"structured_outputs": {"regex": "(?=a)b"}}),
    ("structured_outputs.grammar", "foo", {"structured_outputs": {"grammar": "start: foo"}}),
    ("structured_outputs.grammar", "", {"structured_outputs": {"grammar": "hello"}}),
    ("structured_outputs.grammar", "foo", {"structured_outputs": {"grammar": "root ::= foo"}}),
    ("structured_outputs.grammar", "root", {"structured_outputs": {"grammar": 'a ::= "x"'}}),
    ("structured_outputs.grammar", "", {"structured_outputs": {"grammar": 'root ::= "x'}}),
    ("structured_outputs.grammar", "", {"structured_outputs": {"grammar": "root ::= " + "(" * 3000}}),
    ("structured_outputs.grammar", "characters", {"structured_outputs": {"grammar": "a" * 200_000}}),
    ("structured_outputs.choice[0]", "must be a string", {"structured_outputs": {"choice": [1]}}),
    ("structured_outputs.choice", "at least 1", {"structured_outputs": {"choice": []}}),
    ("structured_outputs.json", "JSON", {"structured_outputs": {"json": "{"}}),
    ("structured_outputs", "contradict", {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}),
    ("ignore_eos", "grammar", {"structured_outputs": {"regex": "a"}, "ignore_eos": True}),
    ("tool_choice", "no \"tools\"", {"tool_choice": "required"}),
    ("tool_choice", "add", {"tools": [ADD], "tool_choice": {"type": "function", "function": {"name": "mul"}}}),
    ("tool_choice.function", "missing", {"tools": [ADD], "tool_choice": {"type": "function"}}),
    ("tool_choice", "must be", {"tools": [ADD], "tool_choice": "always"}),
    ("parallel_tool_calls", "true or false", {"tools": [ADD], "parallel_tool_calls": "no"}),
    ("tools", "two tools", {"tools": [ADD, ADD]}),
    ("tools[1].function.parameters", "uniqueItems", {"tools": [ADD, tool("f", a={"uniqueItems": True})]}),
    ("tool_choice", "wants a call", {"tools": [ADD], "tool_choice": "required", "response_format": {"type": "json_object"}}),
]


@pytest.mark.parametrize(("param", "words", "body"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_cannot_be_served_is_refused_by_name(client, param, words, body):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="tiny", messages=HELLO, extra_body=body)
    assert error.value.param == param
    assert words in error.value.message


def test_a_grammar_that_costs_too_much_is_refused_in_time(client):
    for body in (
        {"regex": "(a{1000}){1000}|b"},
        {"json": {"type": "array", "minItems": 10**8, "maxItems": 10**9}},
        {"json": {"type": "string", "minLength": 10**6}},
        {"grammar": "start: " + " ".join(["(" * 50, '"a"', ")" * 50])},
    ):
        try:
            answer = chat(client, structured_outputs=body, max_tokens=3)
            assert answer.choices[0].finish_reason in ("length", "stop")
        except openai.BadRequestError as error:
            assert error.code in ("invalid_grammar", "grammar_too_complex")


def test_a_response_names_its_own_field(client):
    broken = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {"a": {"uniqueItems": True}}}, "strict": False}
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as refused:
        client.responses.create(model="tiny", input="x", tools=[broken])
    assert refused.value.param == "tools[0].parameters"
