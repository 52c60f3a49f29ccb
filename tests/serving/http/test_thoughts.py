"""What is thought comes apart from the answer: the same for every chunking, counted, and given back to the template."""

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import Catalog, chunked, scripted_model

from serving.application.thoughts import BEGIN, END, Thought, Thoughts
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread

THOUGHT = "1 + 1 < 3"
ANSWER = "Two."
SAID = f"{BEGIN}{THOUGHT}{END}{ANSWER}"
CALL = '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


def split(chunks, begun=False):
    """(thought, text)."""
    thoughts = Thoughts(begun)
    pieces = [piece for chunk in chunks for piece in thoughts.push(chunk)] + list(thoughts.flush())
    return "".join(one.text for one in pieces if isinstance(one, Thought)), "".join(one for one in pieces if isinstance(one, str))


@pytest.mark.parametrize(
    ("text", "begun", "thought", "answer"),
    [
        (SAID, False, THOUGHT, ANSWER),
        (ANSWER, False, "", ANSWER),
        (f"Hm. {SAID}", False, "", f"Hm. {SAID}"),
        ("<thin", False, "", "<thin"),
        (f"{BEGIN}without an en</th", False, "without an en</th", ""),
        (f"{THOUGHT}{END}{ANSWER}", True, THOUGHT, ANSWER),
        (f"{SAID}{SAID}", False, THOUGHT, f"{ANSWER}{SAID}"),
        ("", False, "", ""),
    ],
)
def test_a_thought_is_what_stands_between_markers_at_the_beginning(text, begun, thought, answer):
    assert split([text], begun) == (thought, answer)


@given(st.text(alphabet="<think>/ a", max_size=30), st.booleans(), st.lists(st.integers(0, 1000)))
def test_any_chunking_gives_the_same_thought_and_answer(rest, thinks, cuts):
    text = BEGIN + rest if thinks else rest
    thought, answer = split([text])
    assert split(chunked(text, cuts)) == (thought, answer)
    assert text in (answer, BEGIN + thought, BEGIN + thought + END + answer)


@pytest.fixture(scope="module", params=[(1,), (5,), (1000,)], ids=str)
def thinker(request):
    """A model that thinks, behind a real server, and its official client."""

    def said(asked):
        text = bytes(token for token in asked.prompt_tokens if token < 256).decode()
        return f"{BEGIN}{THOUGHT}{END}{CALL}" if "call" in text else f"{BEGIN}{THOUGHT}" if "stop early" in text else SAID

    model = scripted_model(said, request.param)
    with (
        run_in_thread(create_app(Catalog(model))) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="me", max_retries=0, timeout=20) as client,
    ):
        client.parrot = model.engine
        yield client


def ask(client, *messages, **fields):
    told = [{"role": "user", "content": one} if isinstance(one, str) else one for one in messages]
    return client.chat.completions.create(model="parrot", messages=told, **fields)


def test_a_chat_has_it_in_a_field_of_its_own(thinker):
    answer = ask(thinker, "hi")
    assert answer.choices[0].message.content == ANSWER and answer.choices[0].message.reasoning_content == THOUGHT
    details = answer.usage.completion_tokens_details
    assert details.reasoning_tokens == len(SAID) - len(ANSWER) and answer.usage.completion_tokens == len(SAID)


def test_a_stream_brings_the_thought_first(thinker):
    deltas = [chunk.choices[0].delta for chunk in ask(thinker, "hi", stream=True) if chunk.choices]
    thought = [getattr(delta, "reasoning_content", None) or "" for delta in deltas]
    text = [delta.content or "" for delta in deltas]
    assert "".join(thought) == THOUGHT and "".join(text) == ANSWER
    assert max(n for n, one in enumerate(thought) if one) < min(n for n, one in enumerate(text) if one)


def test_a_call_after_a_thought_is_a_call(thinker):
    message = ask(thinker, "call", tools=[TOOL]).choices[0].message
    assert message.reasoning_content == THOUGHT and message.content is None
    assert message.tool_calls[0].function.arguments == '{"a": 1}'


def test_a_thought_without_an_end_is_no_answer(thinker):
    choice = ask(thinker, "stop early").choices[0]
    assert choice.message.content == "" and choice.message.reasoning_content == THOUGHT


def test_every_token_keeps_its_likelihood(thinker):
    scored = ask(thinker, "hi", logprobs=True).choices[0].logprobs.content
    assert "".join(one.token for one in scored) == SAID


def test_likelihoods_come_with_what_they_are_of(thinker):
    chunks = [chunk.choices[0] for chunk in ask(thinker, "hi", logprobs=True, stream=True) if chunk.choices]
    told = {True: "", False: ""}
    for one in chunks:
        told[getattr(one.delta, "reasoning_content", None) is not None] += "".join(score.token for score in (one.logprobs and one.logprobs.content) or ())
    assert told == {True: SAID.removesuffix(ANSWER), False: ANSWER}
    response = thinker.responses.create(model="parrot", input="hi", include=["message.output_text.logprobs"], top_logprobs=1)
    assert "".join(one.token for one in response.output[1].content[0].logprobs) == ANSWER


def test_a_completion_is_text_as_it_comes(thinker):
    assert thinker.completions.create(model="parrot", prompt="hi", max_tokens=100).choices[0].text == SAID


def test_a_response_has_an_item_for_it(thinker):
    response = thinker.responses.create(model="parrot", input="hi")
    thought, message = response.output
    assert (thought.type, thought.content[0].text, thought.status) == ("reasoning", THOUGHT, "completed")
    assert response.output_text == ANSWER and message.status == "completed"
    assert response.usage.output_tokens_details.reasoning_tokens == len(SAID) - len(ANSWER)


def test_a_response_that_is_cut_off_while_it_thinks(thinker):
    response = thinker.responses.create(model="parrot", input="hi", max_output_tokens=len(BEGIN) + 3)
    (thought,) = response.output
    assert (response.status, thought.status, thought.content[0].text) == ("incomplete", "incomplete", THOUGHT[:3])


def test_several_thoughts_in_a_row_are_one(thinker):
    rendered = []
    tokenizer = thinker.parrot.tokenizer
    items = [{"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": text}]} for text in ("a", "b")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokenizer, "render_text", lambda messages, *args, **fields: rendered.append(messages) or "hi")
        thinker.responses.create(model="parrot", input=[*items, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}])
    assert rendered[-1][0] == {"role": "assistant", "content": "c", "reasoning_content": "ab"}


def test_the_events_of_a_response_that_thinks(thinker):
    with thinker.responses.stream(model="parrot", input="hi") as stream:
        events = list(stream)
    kinds = list(dict.fromkeys(event.type.removeprefix("response.") for event in events))
    assert kinds == [
        "created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done",
        "content_part.done", "output_item.done", "output_text.delta", "output_text.done", "completed",
    ]  # fmt: skip
    for kind in ("added", "done"):
        parts = [event.part for event in events if event.type == f"response.content_part.{kind}"]
        assert [part.type for part in parts] == ["reasoning_text", "output_text"]
    assert "".join(event.delta for event in events if event.type == "response.reasoning_text.delta") == THOUGHT
    (done,) = [event for event in events if event.type == "response.reasoning_text.done"]
    assert done.text == THOUGHT and done.output_index == 0


@pytest.mark.parametrize("stored", [True, False])
def test_what_was_thought_goes_back_to_the_template(monkeypatch, thinker, stored):
    rendered = []
    tokenizer = thinker.parrot.tokenizer
    render = tokenizer.render_text
    monkeypatch.setattr(tokenizer, "render_text", lambda messages, *args, **fields: rendered.append(messages) or render(messages, *args, **fields))
    first = thinker.responses.create(model="parrot", input="hi")
    question = {"role": "user", "content": "Sure?"}
    if stored:
        thinker.responses.create(model="parrot", input=[question], previous_response_id=first.id)
    else:
        items = [item.model_dump(exclude_none=True) for item in first.output]
        thinker.responses.create(model="parrot", input=[{"role": "user", "content": "hi"}, *items, question])
    assert rendered[-1][1:] == [{"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}, question]
    answer = ask(thinker, "hi").choices[0].message
    ask(thinker, "hi", {"role": "assistant", "content": answer.content, "reasoning_content": answer.reasoning_content}, "Sure?")
    assert rendered[-1][1] == {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}


@pytest.mark.parametrize(
    ("rendered", "fields", "thought", "text"),
    [
        ("user: hi\nassistant: <think>\n", {}, THOUGHT, ANSWER),
        ("user: hi\nassistant: <think>\n\n</think>\n\n", {}, None, f"{THOUGHT}{END}{ANSWER}"),
        ("user: I like <think>", {"extra_body": {"add_generation_prompt": False}}, None, f"{THOUGHT}{END}{ANSWER}"),
        ("user: hi\nassistant: <think>\n", {"response_format": {"type": "json_object"}}, None, f"{THOUGHT}{END}{ANSWER}"),
        ("user: hi\nassistant: <think>\n", {"tools": [TOOL]}, THOUGHT, ANSWER),
        ("user: hi\nassistant: <think>\n", {"tools": [TOOL], "tool_choice": "required"}, None, f"{THOUGHT}{END}{ANSWER}"),
    ],
)
def test_a_template_may_begin_the_thought(monkeypatch, thinker, rendered, fields, thought, text):
    """Not where the answer is held to a grammar from its first token, and not by what a user writes."""
    monkeypatch.setattr(thinker.parrot, "script", lambda request: f"{THOUGHT}{END}{ANSWER}")
    monkeypatch.setattr(thinker.parrot.tokenizer, "render_text", lambda *args, **others: rendered)
    message = ask(thinker, "hi", **fields).choices[0].message
    assert (getattr(message, "reasoning_content", None), message.content) == (thought, text)
