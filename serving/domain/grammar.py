"""What an answer must look like: said once per request, immutable, and known to no library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

MOST_CALLS = 16
"""Tool calls in one answer that has to consist of calls: a model that never ends its turn must not fill its context."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """All texts that an answer may be.

    `text` by kind: a JSON schema as JSON; a regular expression for the whole answer; a JSON array of strings; a grammar in
    Lark's or in GBNF's notation. `param` is the field of the request that asked for it, for errors.
    """

    kind: Literal["json_schema", "regex", "choice", "grammar"]
    text: str
    param: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ToolCallForm:
    """How a family of models writes a tool call: `open`, name between `before_name` and `before_arguments`, arguments as
    JSON, `after_arguments`, `close`; `between` stands between two calls.
    """

    open: str
    close: str
    before_name: str = '{"name": '
    before_arguments: str = ', "arguments": '
    after_arguments: str = "}"
    between: str = "\n"


@dataclass(frozen=True, slots=True)
class Tool:
    """One that may be called: `schema` is the JSON text of what its arguments must be."""

    name: str
    schema: str
    param: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ToolGrammar:
    """Text in which every tool call names one of the `tools` and satisfies its schema.

    `forced`: calls and nothing else, at least one. `parallel`: more than one, `MOST_CALLS` at most if forced. Without
    `forced`, `answer` is what the answer must be if it is not a call.
    """

    tools: tuple[Tool, ...]
    form: ToolCallForm
    forced: bool = False
    parallel: bool = True
    answer: Grammar | None = None


Constraint = Grammar | ToolGrammar
