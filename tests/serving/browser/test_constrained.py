"""Answers that have to have a form, in the browser."""

from __future__ import annotations

import json

import jsonschema

from .talking import ask, change, last_answer, say

FORM = {
    "type": "object",
    "properties": {"mood_of_day": {"enum": ["_good_", "*bad*"]}, "sure": {"type": "boolean"}},
    "required": ["mood_of_day", "sure"],
    "additionalProperties": False,
}
CITY = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def test_an_answer_in_a_schema_is_shown_as_it_is(page):
    change(page, schema=json.dumps(FORM), temperature=1, seed=3)
    jsonschema.validate(json.loads(ask(page, "hello")), FORM)


def test_a_schema_that_cannot_be_kept_is_refused_by_name(page):
    change(page, schema=json.dumps({"type": "array", "uniqueItems": True}))
    say(page, "hello")
    page.wait_for_selector(".failure")
    assert "uniqueItems" in page.locator(".failure").inner_text()


def test_a_call_that_is_required_is_made_once(page):
    change(page, tools=json.dumps([CITY]), tool_choice="required")
    say(page, "bye")
    page.wait_for_selector(".call input")
    name, arguments = page.locator(".call header").inner_text().split("(", 1)
    assert name == "lookup"
    jsonschema.validate(json.loads(arguments.removesuffix(")")), CITY["function"]["parameters"])
    change(page, max_tokens=5)
    page.fill(".call input", "sunny")
    with page.expect_request("**/v1/chat/completions") as caught:
        page.press(".call input", "Enter")
    body = json.loads(caught.value.post_data)
    assert body["messages"][-1]["content"] == "sunny"
    assert "tool_choice" not in body and len(body["tools"]) == 1
    page.wait_for_selector(".message.assistant:nth-of-type(3) .facts")
    assert last_answer(page) is not None
