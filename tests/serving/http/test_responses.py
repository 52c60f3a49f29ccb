"""/v1/responses through the official client and on a scripted engine: events, storage, tools, cancelling."""

import gc
import json
import threading
import weakref
from types import SimpleNamespace

import httpx
import openai
import pytest
from scripted_engine import ByteDetokenizer, Catalog, scripted_model

from serving.application.deltas import ChoiceFinished, ScoredToken, TextDelta, Usage
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.response_record import ResponseRecord, ResponseShelf
from serving.presentation.schemas.responses import ResponseRequest
from serving.presentation.state import HttpConfig

CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "name": "add", "parameters": {"type": "object", "properties": {}}, "strict": False}
PATIENCE = 20


@pytest.fixture
def scripted():
    """A model that says what it is told, behind a real server, and its official client."""
    model = scripted_model("hello")
    config = HttpConfig(tick_seconds=0.02, ping_seconds=0.05)
    with run_in_thread(create_app(Catalog(model), config)) as server, openai.OpenAI(
        base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=PATIENCE
    ) as client:
        client.parrot = model.engine
        yield client


def create(client, **options):
    return client.responses.create(**{"model": "parrot", "input": "hi", **options})


def test_an_answer_is_the_chats_answer(client):
    options = {"temperature": 0}
    chat = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": "the quick fox"}], max_tokens=12, **options
    )
    response = create(client, model="tiny", input="the quick fox", max_output_tokens=12, **options)
    assert response.output_text == chat.choices[0].message.content
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert response.usage.input_tokens == chat.usage.prompt_tokens
    assert response.usage.total_tokens == chat.usage.total_tokens
    with client.responses.stream(
        model="tiny", input="the quick fox", max_output_tokens=12, **options
    ) as stream:
        pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
    assert "".join(pieces) == response.output_text


def test_the_events_of_a_stream(scripted):
    scripted.parrot.script = lambda request: "so: " + CALL
    events = list(create(scripted, stream=True, tools=[TOOL]))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type.removeprefix("response.") for event in events]
    deltas = kinds.count("output_text.delta")
    assert kinds == [
        "created", "in_progress",
        "output_item.added", "content_part.added", *["output_text.delta"] * deltas,
        "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
        "completed",
    ]  # fmt: skip
    final = events[-1].response
    message, call = final.output
    assert (message.content[0].text, call.name, json.loads(call.arguments)) == ("so:", "add", {"a": 1})
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {message.id, call.id}
    assert scripted.responses.retrieve(final.id) == final


@pytest.mark.parametrize("said", ["hello", "<think>hello"])
def test_an_item_that_is_cut_off_is_incomplete_in_its_own_event(scripted, said):
    scripted.parrot.script = lambda request: said
    *_, done, last = create(scripted, stream=True, max_output_tokens=len(said) - 3)
    assert (done.type, done.item.status) == ("response.output_item.done", "incomplete")
    assert (last.type, last.response.output[-1].status) == ("response.incomplete", "incomplete")


def test_an_empty_answer_is_an_empty_message(scripted):
    scripted.parrot.script = lambda request: ""
    response = create(scripted)
    assert (response.status, response.output_text, len(response.output)) == ("completed", "", 1)


def test_a_conversation_goes_on_from_a_stored_response(scripted):
    heard = []

    def script(request):
        heard.append(bytes(request.prompt_tokens).decode())
        return CALL if len(heard) == 1 else "2"

    scripted.parrot.script = script
    first = create(scripted, instructions="be brief", tools=[TOOL])
    (call,) = first.output
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "2"}
    second = create(scripted, input=[result], previous_response_id=first.id)
    third = create(scripted, input="and?", previous_response_id=second.id)
    assert heard == [
        "system: be brief\nuser: hi\n",
        "user: hi\nassistant: \ntool: 2\n",
        "user: hi\nassistant: \ntool: 2\nassistant: 2\nuser: and?\n",
    ]
    assert third.previous_response_id == second.id
    by_hand = [{"role": "user", "content": "hi"}, *(item.model_dump(exclude_none=True) for item in first.output), result]
    create(scripted, input=by_hand)
    assert heard[-1] == heard[1]


def test_what_is_not_stored_or_is_somebody_elses_is_not_found(scripted):
    unstored, stored = create(scripted, store=False), create(scripted)
    for name in (unstored.id, "resp_none"):
        with pytest.raises(openai.NotFoundError):
            scripted.responses.retrieve(name)
        with pytest.raises(openai.NotFoundError) as error:
            create(scripted, previous_response_id=name)
        assert error.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        scripted.with_options(api_key="somebody else").responses.retrieve(stored.id)
    scripted.responses.delete(stored.id)
    with pytest.raises(openai.NotFoundError):
        scripted.responses.retrieve(stored.id)


def test_a_response_in_the_background_is_cancelled(scripted):
    scripted.parrot.hang = True
    begun = create(scripted, background=True)
    assert begun.status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="not done"):
        create(scripted, previous_response_id=begun.id)
    assert scripted.responses.cancel(begun.id).status == "cancelled"
    ended = until_done(scripted, begun.id)
    assert (ended.status, ended.output_text) == ("cancelled", "hello")
    assert scripted.responses.cancel(begun.id).status == "cancelled"
    assert scripted.parrot.cancelled


def test_a_response_in_the_background_completes(scripted):
    begun = create(scripted, background=True)
    assert until_done(scripted, begun.id).output_text == "hello"
    assert scripted.responses.cancel(begun.id).status == "completed", "what is done stays as it is"


def until_done(client, response_id):
    pause = threading.Event()
    for _ in range(PATIENCE * 50):
        response = client.responses.retrieve(response_id)
        if response.status != "in_progress":
            return response
        pause.wait(0.02)
    raise AssertionError("never done")


def test_a_failed_stream_ends_with_an_event(scripted):
    scripted.parrot.error = "step failed"
    *_, last = create(scripted, stream=True)
    assert (last.type, last.response.status, last.response.error.message) == ("response.failed", "failed", "step failed")
    with pytest.raises(openai.InternalServerError):
        create(scripted)


def test_a_stream_that_breaks_unexpectedly_ends_with_an_event(monkeypatch, scripted):
    def broken(self, tokens):
        raise RuntimeError("a mistake")

    monkeypatch.setattr(ByteDetokenizer, "push", broken)
    *_, last = create(scripted, stream=True)
    assert (last.type, last.response.status, last.response.error.code) == ("response.failed", "failed", "server_error")
    assert scripted.responses.retrieve(last.response.id).status == "failed"


def test_logprobs_are_included_on_demand(scripted):
    include = ["message.output_text.logprobs"]
    (message,) = create(scripted, include=include, top_logprobs=1).output
    assert [one.token for one in message.content[0].logprobs] == list("hello")
    assert not create(scripted).output[0].content[0].logprobs


def test_likelihoods_of_a_call_are_no_message_of_their_own(scripted):
    scripted.parrot.script = lambda request: CALL
    found = create(scripted, include=["message.output_text.logprobs"], top_logprobs=1, tools=[TOOL])
    assert [item.type for item in found.output] == ["function_call"]


def test_labels_come_back(scripted):
    assert create(scripted, metadata={"a": "b"}).metadata == {"a": "b"}


class Kept:
    characters, status = 10, "completed"

    def __init__(self, name):
        self.id = name


def test_all_that_is_kept_with_an_answer_is_counted():
    model = SimpleNamespace(name="parrot", version="parrot/1")
    generation = SimpleNamespace(id="x-0-1", created=0, model=model, usage=Usage(1, 1, 0))
    tools = [{**TOOL, "description": "d" * 1000}]
    logprobs = [{"token": "x" * 1000}]
    said = {"role": "user", "content": [{"type": "input_text", "text": "hi", "logprobs": logprobs}]}
    asked = ResponseRequest.model_validate({"input": [said], "tools": tools, "tool_choice": "none"})
    first = ResponseRecord(asked, generation, None)
    assert first.characters > 2000
    before = first.characters
    first.take(TextDelta(0, "so " * 100, tuple(ScoredToken("so ", -1.0, 0) for _ in range(100))))
    first.take(ChoiceFinished(0, "stop"))
    assert first.characters > before + 100 * len('{"token": "so ", "logprob": -1.0}')
    assert ResponseRecord(asked, generation, first).characters == before + first.characters


def test_a_response_that_is_kept_keeps_no_model():
    catalog = Catalog(scripted_model("hello"))
    client = create_app(catalog).test_client()
    held = weakref.ref(catalog.all()[0].engine)
    finished = client.post("/v1/responses", json={"input": "hi"}).json
    catalog._models = {"other": scripted_model("anew")}
    gc.collect()
    assert held() is None
    kept = client.get(f"/v1/responses/{finished['id']}")
    assert kept.json == finished and kept.headers["x-model-version"] == "parrot/1"


def test_a_broken_body_costs_one_error_whatever_it_has(scripted):
    errors = []
    for body in ({"input": [0] * 100_000}, {"input": "hi", "tools": [0] * 100_000}, {"input": "hi", **{f"x{at}": 0 for at in range(10_000)}}):
        answer = httpx.post(f"{scripted.base_url}responses", json=body, timeout=PATIENCE)
        assert answer.status_code == 400
        errors.append(answer.json()["error"])
    assert [error["param"] for error in errors] == ["input[0]", "tools[0]", None] and "10001 fields" in errors[2]["message"]


def test_the_shelf_forgets_the_oldest_that_are_done():
    shelf = ResponseShelf(most=3, characters=35)
    growing = Kept("growing")
    growing.status = "in_progress"
    shelf.put(growing, "me")
    for name in "abc":
        shelf.put(Kept(name), "me")
    assert shelf.get("growing", "me") and shelf.get("b", "me") and shelf.get("c", "me")
    with pytest.raises(Exception, match="no response"):
        shelf.get("a", "me")


BAD = [
    ("input", {"input": None}),
    ("input", {"input": []}),
    ("input", {"input": 5}),
    ("input[0]", {"input": ["x"]}),
    ("input[0].role", {"input": [{"content": "x"}]}),
    ("input[0].role", {"input": [{"role": "wizard", "content": "x"}]}),
    ("input[0].type", {"input": [{"type": "item_reference", "id": "x"}]}),
    ("input[0].content", {"input": [{"role": "user"}]}),
    ("input[0].content[0].type", {"input": [{"role": "user", "content": [{"type": "input_audio", "text": "x"}]}]}),
    ("input[0].arguments", {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "["}]}),
    ("input[0].call_id", {"input": [{"type": "function_call_output", "output": "x"}]}),
    ("max_output_tokens", {"max_output_tokens": 0}),
    ("max_output_tokens", {"max_output_tokens": 1_000_000}),
    ("input", {"input": "x" * 100_000}),
    ("background", {"background": True, "store": False}),
    ("background", {"background": True, "stream": True}),
    ("stream_options", {"stream_options": {}}),
    ("top_logprobs", {"top_logprobs": 2}),
    ("include[0]", {"include": ["reasoning.encrypted_content"]}),
    ("text.format.type", {"text": {"format": {"type": "yaml"}}}),
    ("text.format.schema", {"text": {"format": {"type": "json_schema", "name": "x"}}}),
    ("tools[0].name", {"tools": [{"type": "function", "name": "two words"}]}),
    ("tools[0].type", {"tools": [{"type": "web_search"}]}),
    ("tool_choice", {"tool_choice": "required"}),
    ("reasoning", {"reasoning": {"effort": "low"}}),
    ("truncation", {"truncation": "auto"}),
    ("metadata.a", {"metadata": {"a": 1}}),
    ("temprature", {"temprature": 1}),
]


@pytest.mark.parametrize(("param", "change"), BAD, ids=lambda value: str(value)[:60])
def test_mistakes_name_the_field(param, change):
    client = create_app(Catalog(scripted_model("hello"))).test_client()
    answer = client.post("/v1/responses", json={"input": "hi", **change})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param), answer.text


def test_a_stream_whose_reader_leaves_is_given_up(scripted):
    scripted.parrot.hang = True
    url = str(scripted.base_url) + "responses"
    with httpx.stream(
        "POST", url, json={"input": "hi", "stream": True}, headers={"Authorization": "Bearer me"}
    ) as answer:
        lines = answer.iter_lines()
        while not (line := next(lines)).startswith("data: "):
            pass
    name = json.loads(line[6:])["response"]["id"]
    assert until_done(scripted, name).status == "cancelled"
