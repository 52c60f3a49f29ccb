"""The fields that say what form an answer has: tools, which of them, and structured output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from serving.presentation.schemas.base import Unsupported, Wire, refusal
from serving.presentation.schemas.words import describe

ToolName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.\-]{1,64}$")]


class FunctionTool(Wire):
    name: ToolName
    """1 to 64 letters, digits, dots, dashes and underscores."""
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of the arguments."""
    strict: Unsupported[Literal[False]] = None


class Tool(Wire):
    """A function that the model may ask the client to call."""

    type: Literal["function"]
    function: FunctionTool

    def template(self) -> dict[str, Any]:
        """As chat templates take it."""
        schema = self.function.parameters or {"type": "object", "properties": {}}
        named = {"name": self.function.name, "description": self.function.description or "", "parameters": schema}
        return {"type": "function", "function": named}


class ResponseFormat(Wire):
    """How the answer is written."""

    type: Literal["text"]


def _not_forced(choice: Any) -> Any:
    if choice == "required" or isinstance(choice, dict):
        raise refusal('{param} supports "none" and "auto" so far; forcing a call is not supported yet')
    if choice not in (None, "none", "auto"):
        raise refusal(f'{{param}} must be "none" or "auto", not {describe(choice)}')
    return choice


ToolChoice = Annotated[Literal["none", "auto"], BeforeValidator(_not_forced)]


class SteeringFields(Wire):
    """Inherited by what answers conversations."""

    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    """"none": the model sees no tools. "auto": it decides."""
    parallel_tool_calls: Unsupported[Literal[True]] = None
    response_format: Unsupported[ResponseFormat] = None

    def offered_tools(self) -> list[dict[str, Any]]:
        """As chat templates take them; none when the model may not call any."""
        return [] if self.tool_choice == "none" else [tool.template() for tool in self.tools or ()]
