"""What a session says of tools: which there are, and which may or must be called."""

from __future__ import annotations

from serving.application.live.settings import AnswerSettings
from serving.presentation.realtime_commands import with_tools
from serving.presentation.realtime_json import _tool_choice
from serving.presentation.schemas.realtime import Session


def tool(name: str) -> dict:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}


def after(answers: AnswerSettings, **fields) -> AnswerSettings:
    return with_tools(answers, Session.model_validate(fields), "session")


START = AnswerSettings(format=None)


def names(answers: AnswerSettings) -> list[str]:
    return [one["function"]["name"] for one in answers.offered]


def test_a_tool_that_is_gone_is_not_to_be_called_any_more():
    answers = after(START, tools=[tool("a"), tool("b")], tool_choice={"type": "function", "name": "a"})
    assert (answers.forced, names(answers)) == ("a", ["a", "b"])
    assert after(answers, tools=[tool("a")]).forced == "a"
    for changed, left in ((after(answers, tools=[tool("b")]), ["b"]), (after(answers, tools=[]), [])):
        assert (changed.forced, names(changed)) == (None, left) and _tool_choice(changed.forced) == "auto"
    required = after(answers, tool_choice="required")
    assert after(required, tools=[tool("b")]).forced == "" and after(required, tools=[]).forced is None


def test_tools_that_may_not_be_called_for_a_while_are_still_known():
    silent = after(after(START, tools=[tool("a")]), tool_choice="none")
    assert names(silent) == [] and len(silent.tools) == 1
    assert names(after(silent, tools=[tool("b")])) == []
    assert names(after(silent, tool_choice="auto")) == ["a"]
