"""What a conversation keeps of what was said and heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.domain.dialogue import ROOT, Dialogue, Item, Part
from serving.domain.errors import InvalidRequest

SPOKEN = [("It is forty two. ", 1000.0), ("Ask me something else. ", 2000.0)]


def spoken(item_id: str = "a") -> Item:
    return Item(item_id, role="assistant", parts=[Part("output_audio", "It is forty two. Ask me something else.", list(SPOKEN))])


@pytest.mark.parametrize(
    ("heard_ms", "text"),
    [
        (0, ""), (500, "It is"), (1000, "It is forty two."), (1500, "It is forty two. Ask"),
        (3000, "It is forty two. Ask me something else."),
    ],
)
def test_the_history_keeps_what_was_heard(heard_ms, text):
    dialogue = Dialogue()
    dialogue.add(spoken())
    dialogue.truncate("a", 0, heard_ms)
    assert dialogue.messages() == ([{"role": "assistant", "content": text}] if text else [])


@given(st.floats(0, 3000), st.floats(0, 3000))
def test_who_hears_longer_hears_no_fewer_words(one, other):
    part = spoken().parts[0]
    part.heard_ms = min(one, other)
    shorter = part.heard
    part.heard_ms = max(one, other)
    assert part.heard.startswith(shorter) and part.text.startswith(part.heard)


def test_items_go_where_they_are_put():
    dialogue = Dialogue()
    assert dialogue.add(Item("b")) is None
    assert dialogue.add(Item("d")) == "b"
    assert dialogue.add(Item("c"), after="b") == "b"
    assert dialogue.add(Item("a"), after=ROOT) is None
    assert [item.id for item in dialogue] == ["a", "b", "c", "d"]
    dialogue.remove("c")
    assert dialogue.last == "d" and len(dialogue) == 3


def test_calls_and_their_results_are_messages_of_the_template():
    dialogue = Dialogue()
    dialogue.add(Item("a", parts=[Part("input_text", "Weather?")]))
    dialogue.add(Item("b", "function_call", "assistant", [], "completed", "call_1", "look", '{"city": "Rome"}'))
    dialogue.add(Item("c", "function_call_output", call_id="call_1", output="sunny"))
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": {"city": "Rome"}}}
    assert dialogue.messages("Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]


@pytest.mark.parametrize(
    "deed",
    [
        lambda one: one.get("x"), lambda one: one.remove("x"), lambda one: one.add(Item("a")),
        lambda one: one.add(Item("z"), after="x"), lambda one: one.truncate("a", 1, 0), lambda one: one.truncate("a", 0, 9000),
        lambda one: one.truncate("u", 0, 0),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(deed):
    dialogue = Dialogue()
    dialogue.add(spoken())
    dialogue.add(Item("u"))
    version = dialogue.version
    with pytest.raises(InvalidRequest):
        deed(dialogue)
    assert (len(dialogue), dialogue.version) == (2, version)
