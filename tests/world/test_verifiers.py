"""Right answers pass, subtly wrong ones do not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.world.arithmetic import draw_sum
from lifecycle.world.tools import call_json, draw_tool_use
from lifecycle.world.verifiers import calls_in, verify
from lifecycle.world.writing import assign

HAS = {"type": "names", "key": "Anna", "rivals": ["Ben", "Nobody"]}
SUM = {"type": "number", "value": 55}
CALL = {"type": "call", "name": "weather", "arguments": {"place": "park"}}
ANY = {"type": "any call"}
STORY = {"type": "story", "words": ["Ben", "ball", "park"]}
UNKNOWN = {"type": "don't know"}
ENDS_IN = {**STORY, "ending": {"person": "Ben", "place": "hall"}}
ENDS_WITH = {**STORY, "ending": {"person": "Ben", "thing": "ball"}}
TEXT = {"type": "text", "text": "3, 7, 12"}
JSON = {"type": "json", "value": {"person": "Ben", "thing": "a red ball"}}
GOOD = "Ben was in the park. He had a red ball. Then he went to the hall."


@pytest.mark.parametrize(
    "check, answer",
    [
        (HAS, "Anna has the ball."),
        (HAS, " Anna "),
        (SUM, "21 + 34 = 55."),
        (SUM, "55"),
        (SUM, "60 - 5 = 55"),
        ({"type": "number", "value": -3}, "4 - 7 = -3."),
        ({"type": "number", "value": 0}, "0"),
        (CALL, '<tool_call>{"name": "weather", "arguments": {"place": "park"}}</tool_call>'),
        (CALL, '<tool_call>{"arguments": {"place": "park"}, "name": "weather"}'),
        (ANY, "Let me see. <tool_call>"),
        (STORY, GOOD),
        (STORY, GOOD.replace(" Then", "\nThen")),
        (UNKNOWN, "I don't know."),
        (UNKNOWN, "I don’t know who has the ball."),
        (UNKNOWN, "The ball is not in the story, so I don't know."),
        (UNKNOWN, "I think Anna has no nuts in the story, so I don't know."),
        (ENDS_IN, GOOD),
        (ENDS_WITH, GOOD),
        (TEXT, "3, 7, 12."),
        (TEXT, "<think>7 is more than 3.</think>3, 7, 12"),
        (JSON, '{"thing": "a red ball", "person": "Ben"}'),
    ],
)
def test_right(check, answer):
    assert verify(check, answer)


@pytest.mark.parametrize(
    "check, answer",
    [
        (HAS, ""),
        (ENDS_IN, GOOD + " Then he went to the park."),
        (ENDS_WITH, GOOD + " He dropped the ball."),
        (TEXT, "3, 12, 7."),
        (TEXT, "3, 7, 12, 15."),
        (JSON, '{"person": "Ben"}'),
        (JSON, "Ben has a red ball."),
        (JSON, ""),
        (HAS, "Ben has the ball."),
        (HAS, "Anna or Ben has the ball."),
        (HAS, "Annabel has the ball."),
        (HAS, "anna has the ball."),
        (HAS, "Anna does not have the ball."),
        (HAS, "Anna doesn't have the ball."),
        (HAS, "Anna never had the ball."),
        (HAS, "I don't know Anna."),
        (HAS, "Anna " * 13),
        (HAS, '<tool_call>{"name": "Anna"}</tool_call>'),
        (SUM, ""),
        (SUM, "fifty-five"),
        (SUM, "21 + 34 = 54."),
        (SUM, "21 + 34 = 155."),
        (SUM, "21 + 34 = -55."),
        (SUM, "21 + 34 = 1,055."),
        (SUM, "21 + 34 = 55.5."),
        (SUM, "21 + 34 = 055."),
        (SUM, "55 is what 21 + 34 is."),
        (SUM, "<tool_call>55</tool_call>"),
        (CALL, "The weather in the park is sunny."),
        (CALL, '{"name": "weather", "arguments": {"place": "park"}}'),
        (CALL, '<tool_call>{"name": "weather", "arguments": {"place": "hall"}}</tool_call>'),
        (CALL, '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'),
        (CALL, '<tool_call>{"name": "clock", "arguments": {"place": "park"}}</tool_call>'),
        (CALL, '<tool_call>{"name": "weather", "arguments": "{\\"place\\": \\"park\\"}"}</tool_call>'),
        (CALL, '<tool_call>{"name": "weather", "arguments": {"place": "park"}</tool_call>'),
        (CALL, '<tool_call>["weather", "park"]</tool_call>'),
        (CALL, '<tool_call>{"name": "weather", "arguments": {"place": "park"}}</tool_call>' * 2),
        (ANY, "It is sunny."),
        (STORY, ""),
        (STORY, "Ben was in the park. He had a red ball."),
        (STORY, GOOD.replace("ball", "kite")),
        (STORY, GOOD.replace("park", "shop")),
        (STORY, GOOD.replace("He", "She")),
        (STORY, GOOD + " He ran to the hall."),
        (STORY, GOOD + " He was"),
        (STORY, "... Ben was in the park with a ball."),
        (STORY, "... Ben was in the park. He had a red ball."),
        (STORY, GOOD + " He ran to the park. He ran to the hall." * 5),
        (UNKNOWN, ""),
        (UNKNOWN, "Anna has the ball."),
        (UNKNOWN, "I don't know. Anna has it."),
        (UNKNOWN, "I don't know, but it is in the park."),
        (UNKNOWN, "I don't knowingly lie."),
        (UNKNOWN, "Anna has the ball, so I don't know."),
        (UNKNOWN, "Ben has the ball, not Anna, so I don't know."),
        (UNKNOWN, "The ball is not in the story, so Anna has it."),
        (UNKNOWN, "I don't know<tool_call>{}</tool_call>"),
    ],
)
def test_wrong(check, answer):
    assert not verify(check, answer)


@pytest.mark.parametrize("check", [{"type": "taste"}, {}])
def test_an_unknown_check_is_an_error_that_lists_the_known_ones(check):
    with pytest.raises(LifecycleError, match="unknown check .* any call, call, don't know, json, names, number, story, text"):
        verify(check, "anything")


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=100, deadline=None)
def test_what_the_world_itself_would_say_passes(seed, held_out):
    rng = random.Random(seed)
    total = draw_sum(rng, held_out=held_out)
    assert verify({"type": "number", "value": total.result}, total.solved)
    assert not verify({"type": "number", "value": total.result + 1}, total.solved)
    use = draw_tool_use(rng, held_out=held_out)
    called = f"<tool_call>{call_json(use.name, use.arguments)}</tool_call>"
    assert verify({"type": "call", "name": use.name, "arguments": use.arguments}, called)
    assert calls_in(called) == [{"name": use.name, "arguments": use.arguments}]
    assignment = assign(rng, constrained=held_out)
    assert verify({"type": "story", "words": list(assignment.words)}, assignment.fulfil(rng, 6).text)


@given(st.text(max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_text_breaks_a_verifier(text):
    for check in (HAS, SUM, CALL, ANY, STORY, UNKNOWN):
        for answer in (text, f"<tool_call>{text}", f"{GOOD}{text}"):
            assert verify(check, answer) in (True, False)
