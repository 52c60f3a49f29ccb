"""What an answer must look like, as clients say it: `response_format` and `tool_choice` as in OpenAI's API, and
`structured_outputs` as in vLLM's. Takes parsed JSON values, whoever parsed them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from serving.domain.errors import InvalidRequest
from serving.domain.grammar import Grammar
from serving.presentation.validation import Fields, wrong

ANY_OBJECT = '{"type": "object"}'
EXTENSION = "structured_outputs"
MOST_CHOICES = 1000


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Which of the tools the model sees, and what it has to do with them; see `GenerateChat`."""

    tools: list[dict[str, Any]]
    forced: str | None
    parallel: bool


def read_grammar(response_format: Any = None, structured_outputs: Any = None) -> Grammar | None:
    """The grammar of the answer; None for plain text. Raises `InvalidRequest` naming the field."""
    grammar = None if response_format is None else _response_format(Fields(response_format, "response_format."))
    if structured_outputs is None:
        return grammar
    if grammar is not None:
        raise InvalidRequest(f'"response_format" and "{EXTENSION}" contradict each other: send one of them', param=EXTENSION)
    return _structured_outputs(Fields(structured_outputs, f"{EXTENSION}."))


def read_tool_choice(
    tools: list[dict[str, Any]], choice: Any, parallel: Any, grammar: Grammar | None
) -> ToolChoice:
    """Which tools may or must be called. Raises `InvalidRequest` naming the field."""
    if parallel is not None and not isinstance(parallel, bool):
        raise wrong("parallel_tool_calls", "true or false", parallel)
    several = parallel is not False
    if choice is None or choice == "auto":
        _check_names(tools)
        return ToolChoice(tools, None, several)
    if choice == "none":
        return ToolChoice([], None, several)
    forced = "" if choice == "required" else _named(choice)
    if not tools:
        raise InvalidRequest('"tool_choice" asks for a call, but there are no "tools": send at least one', param="tool_choice")
    _check_names(tools)
    names = [tool["function"]["name"] for tool in tools]
    if forced and forced not in names:
        raise InvalidRequest(
            f'"tool_choice" names the tool "{forced[:64]}", and "tools" has {", ".join(names)[:200]}', param="tool_choice"
        )
    if grammar is not None:
        raise InvalidRequest(
            f'"{grammar.param.split(".")[0]}" says what the answer is, and "tool_choice" wants a call: send one of them',
            param=grammar.param,
        )
    return ToolChoice(tools, forced, several and not forced)


def _named(choice: Any) -> str:
    if not isinstance(choice, dict):
        raise wrong("tool_choice", '"none", "auto", "required", or {"type": "function", "function": {"name": ...}}', choice)
    fields = Fields(choice, "tool_choice.")
    kind = fields.required("type")
    if kind != "function":
        raise InvalidRequest('only tools of type "function" can be chosen', param="tool_choice.type")
    function = Fields(fields.required("function"), "tool_choice.function.")
    function.required("name")
    name = function.text("name")
    function.finish()
    fields.finish()
    if not name:
        raise InvalidRequest('"tool_choice.function.name" is empty: name one of "tools"', param="tool_choice.function.name")
    return name


def _check_names(tools: list[dict[str, Any]]) -> None:
    names = [tool["function"]["name"] for tool in tools]
    for at, name in enumerate(names):
        if name in names[:at]:
            raise InvalidRequest(f'two tools are called "{name}"', param=f"tools.{at}.function.name")


def _response_format(fields: Fields) -> Grammar | None:
    kind = fields.choice("type", ("text", "json_object", "json_schema"))
    if kind != "json_schema":
        fields.finish()
        return Grammar("json_schema", ANY_OBJECT, "response_format.type") if kind == "json_object" else None
    inner = Fields(fields.required("json_schema"), fields.param("json_schema."))
    inner.required("name")
    inner.text("name")
    inner.text("description")
    inner.boolean("strict")  # every schema is kept to the letter
    schema = inner.required("schema")
    inner.finish()
    fields.finish()
    return _schema(schema, inner.param("schema"))


def _structured_outputs(fields: Fields) -> Grammar:
    names = ("json", "json_object", "regex", "choice", "grammar")
    given = [name for name in names if fields.take(name) is not None]
    fields.finish()
    if len(given) != 1:
        raise InvalidRequest(f'"{EXTENSION}" takes exactly one of {", ".join(names)}', param=EXTENSION)
    (name,) = given
    value, param = fields.take(name), fields.param(name)
    if name == "json":
        return _schema(_parsed(value, param) if isinstance(value, str) else value, param)
    if name == "json_object":
        if value is not True:
            raise wrong(param, "true", value)
        return Grammar("json_schema", ANY_OBJECT, param)
    if name == "choice":
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
            raise wrong(param, "an array of strings, none of them empty", value)
        if len(value) > MOST_CHOICES:
            raise InvalidRequest(f'"{param}" takes at most {MOST_CHOICES} strings, not {len(value)}', param=param)
        return Grammar("choice", json.dumps(value), param)
    if not isinstance(value, str) or not value.strip():
        raise wrong(param, "a string that is not empty", value)
    return Grammar("regex" if name == "regex" else "grammar", value, param)


def _schema(value: Any, param: str) -> Grammar:
    if not isinstance(value, dict | bool):
        raise wrong(param, "an object (a JSON schema)", value)
    return Grammar("json_schema", json.dumps(value, sort_keys=False), param)


def _parsed(text: str, param: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidRequest(f'"{param}" is a string, but not JSON: send the schema itself', param=param) from None
