"""Chat messages and tools: from the wire to what chat templates take."""

from __future__ import annotations

import json
import re
from typing import Any

from serving.domain.errors import InvalidRequest
from serving.presentation.validation import Fields, wrong

ROLES = ("system", "developer", "user", "assistant", "tool")
TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def read_messages(value: Any) -> list[dict[str, Any]]:
    """Messages with text content; the arguments of tool calls become objects. Errors name "messages.<i>.<field>"."""
    if not isinstance(value, list):
        raise wrong("messages", "an array", value)
    if not value:
        raise InvalidRequest('"messages" is empty: send at least one message', param="messages")
    return [_message(Fields(message, f"messages.{at}.")) for at, message in enumerate(value)]


def _message(fields: Fields) -> dict[str, Any]:
    role = fields.choice("role", ROLES)
    message: dict[str, Any] = {"role": "system" if role == "developer" else role}
    calls = _tool_calls(fields) if role == "assistant" else []
    message["content"] = _content(fields, optional=bool(calls))
    if calls:
        message["tool_calls"] = calls
    if role == "assistant":
        fields.unsupported({"refusal": (), "audio": (), "function_call": (), "annotations": ([],)})
    if role == "tool":
        fields.required("tool_call_id")
        message["tool_call_id"] = fields.text("tool_call_id")
    if (name := fields.text("name")) is not None:
        message["name"] = name
    fields.finish()
    return message


def _content(fields: Fields, *, optional: bool) -> str:
    """A string, or text parts put together. Only a message that calls tools may go without."""
    value = fields.take("content") if optional else fields.required("content")
    param = fields.param("content")
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise wrong(param, "a string or an array of text parts", value)
    return "".join(_text_part(Fields(part, f"{param}.{at}.")) for at, part in enumerate(value))


def _text_part(fields: Fields) -> str:
    kind = fields.required("type")
    if kind != "text":
        raise InvalidRequest("only text parts are supported", param=fields.param("type"))
    fields.required("text")
    text = fields.text("text")
    fields.finish()
    return text or ""


def _tool_calls(fields: Fields) -> list[dict[str, Any]]:
    calls = fields.array("tool_calls") or []
    return [_tool_call(Fields(call, fields.param(f"tool_calls.{at}."))) for at, call in enumerate(calls)]


def _tool_call(fields: Fields) -> dict[str, Any]:
    identity = fields.text("id")
    kind = fields.text("type") or "function"
    if kind != "function":
        raise InvalidRequest('only tool calls of type "function" are supported', param=fields.param("type"))
    function = Fields(fields.required("function"), fields.param("function."))
    function.required("name")
    function.required("arguments")
    name, written = function.text("name"), function.text("arguments")
    function.finish()
    fields.ignore("index")  # clients that echo streamed deltas leave it in
    fields.finish()
    call = {"type": "function", "function": {"name": name, "arguments": _arguments(written, function)}}
    return call if identity is None else {"id": identity, **call}


def _arguments(written: str | None, function: Fields) -> dict[str, Any]:
    try:
        arguments = json.loads(written or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(
            f'"{function.param("arguments")}" must be a string that holds a JSON object',
            param=function.param("arguments"),
        )
    return arguments


def read_tools(fields: Fields) -> list[dict[str, Any]]:
    """The tools of a request."""
    return [_tool(Fields(tool, f"tools.{at}.")) for at, tool in enumerate(fields.array("tools") or [])]


def _tool(fields: Fields) -> dict[str, Any]:
    if fields.required("type") != "function":
        raise InvalidRequest('only tools of type "function" are supported', param=fields.param("type"))
    function = Fields(fields.required("function"), fields.param("function."))
    function.required("name")
    name = function.text("name") or ""
    if not TOOL_NAME.fullmatch(name):
        raise InvalidRequest(
            "a tool's name is 1 to 64 letters, digits, dots, dashes and underscores", param=function.param("name")
        )
    description = function.text("description") or ""
    parameters = function.take("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise wrong(function.param("parameters"), "an object (a JSON schema)", parameters)
    function.boolean("strict")  # arguments always keep to the schema
    function.finish()
    fields.finish()
    schema = parameters or {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
