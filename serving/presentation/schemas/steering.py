"""The fields that say which tools there are, and what the model has to do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from serving.domain.grammar import Grammar
from serving.presentation.schemas.base import Array, Wire, refusal
from serving.presentation.schemas.words import describe

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]
WORDS = ("none", "auto", "required")


class FunctionTool(Wire):
    name: ToolName
    """1 to 64 letters, digits, dots, dashes and underscores."""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of the arguments, which every call satisfies."""
    strict: bool | None = None
    """Arguments keep to the schema in any case."""


class Tool(Wire):
    """A function that the model may ask the client to call."""

    type: Literal["function"]
    function: FunctionTool

    def template(self) -> dict[str, Any]:
        """As chat templates take it."""
        schema = self.function.parameters or {"type": "object", "properties": {}}
        named = {"name": self.function.name, "description": self.function.description or "", "parameters": schema}
        return {"type": "function", "function": named}


class NamedFunction(Wire):
    name: ToolName


class NamedTool(Wire):
    """This tool has to be called."""

    type: Literal["function"]
    function: NamedFunction


def known_choice(choice: Any) -> Any:
    """A word, or an object that names a tool."""
    if choice is None or isinstance(choice, dict) or (isinstance(choice, str) and choice in WORDS):
        return choice
    raise refusal(f'{{param}} must be "none", "auto", "required", or name a function, not {describe(choice)}')


ToolChoice = Annotated[Literal["none", "auto", "required"] | NamedTool, BeforeValidator(known_choice)]


def forced_tool(choice: str | None, named: str | None, names: Sequence[str], grammar: Grammar | None) -> str | None:
    """The tool that must be called, "" for any of them, None for none; see `GenerateChat`.

    `names` of the tools that there are. Raises a refusal of the object that the fields are in.
    """
    for at, name in enumerate(names):
        if name in names[:at]:
            raise refusal(f'two tools are called "{name}"', "tools")
    if choice != "required" and named is None:
        return None
    if not names:
        raise refusal('{param} asks for a call, but there are no "tools": send at least one', "tool_choice")
    if named is not None and named not in names:
        raise refusal(f'{{param}} names the tool "{named}", and "tools" has {", ".join(names)[:200]}', "tool_choice")
    if grammar is not None:
        raise refusal('{param} wants a call, and the answer is to have a form of its own: send one of them', "tool_choice")
    return named or ""


class SteeringFields(Wire):
    """Inherited by chat requests."""

    tools: Array[Tool] | None = None
    tool_choice: ToolChoice | None = None
    """"none": the model sees no tools. "auto": it decides. "required": it calls at least one; or which one it calls."""
    parallel_tool_calls: bool = True
    """Whether one answer may have several calls."""

    def forced(self, grammar: Grammar | None) -> str | None:
        """The tool that must be called, see `forced_tool`."""
        named = self.tool_choice.function.name if isinstance(self.tool_choice, NamedTool) else None
        choice = self.tool_choice if isinstance(self.tool_choice, str) else None
        return forced_tool(choice, named, [tool.function.name for tool in self.tools or ()], grammar)

    def offered_tools(self) -> list[dict[str, Any]]:
        """As chat templates take them; none when the model may not call any."""
        return [] if self.tool_choice == "none" else [tool.template() for tool in self.tools or ()]
