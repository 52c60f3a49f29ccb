"""Grammars in the notation of llguidance: Lark, with JSON schemas, special tokens and lazy lexemes in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from llguidance.gbnf_to_lark import any_to_lark

from serving.domain.grammar import MOST_CALLS, Constraint, Grammar, Tool, ToolGrammar

LAYOUT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON on one line, as Python writes it and as models have read it: in free white space a small model gets lost for ever."""
HEAD = "%llguidance {}"


def lark(constraint: Constraint, special: Mapping[str, int]) -> str:
    """A constraint as one grammar.

    special: tokens that are not the text they are called by, and that do not end an answer. Raises ValueError for what cannot
    be read.
    """
    if isinstance(constraint, ToolGrammar):
        return "\n".join([HEAD, *_tool_rules(constraint, special)])
    if constraint.kind == "grammar":
        try:
            return any_to_lark(constraint.text)
        except Exception as error:  # of a rule that is not there, of brackets too deep: each has another kind
            raise ValueError(str(error)) from None
    return f"{HEAD}\nstart: {_answer(constraint)}"


def _answer(grammar: Grammar) -> str:
    """An expression for a whole answer."""
    if grammar.kind == "json_schema":
        return _json(grammar.text)
    if grammar.kind == "choice":
        return " | ".join(map(json.dumps, json.loads(grammar.text)))
    if grammar.kind == "regex":
        return "/" + re.sub(r"(\\.)|/|\n", _escape, grammar.text) + "/"
    raise ValueError("beside tools, an answer may have a JSON schema, a regular expression or choices, but no grammar")


def _json(schema: str) -> str:
    """An expression for JSON that satisfies a schema."""
    value = json.loads(schema)
    if isinstance(value, bool):
        value = {} if value else {"enum": []}
    return "%json " + json.dumps({**value, "x-guidance": LAYOUT})


def _tool_rules(grammar: ToolGrammar, special: Mapping[str, int]) -> list[str]:
    form = grammar.form
    opening, closing = _marker(form.open, special), _marker(form.close, special)
    names = [f"tool_{at}" for at in range(len(grammar.tools))]
    rules = [f"call: ({' | '.join(names)}) {closing}"]
    rules += [f"{name}: {_call(tool, grammar)}" for name, tool in zip(names, grammar.tools, strict=True)]
    calls = f"{opening} call"
    if grammar.parallel:
        calls += f" ({json.dumps(form.between)} {opening} call){{0,{MOST_CALLS - 1}}}"
    if grammar.forced:
        return [f"start: {calls}", *rules]
    if grammar.answer is not None:
        return [f"start: {calls} | answer", f"answer: {_answer(grammar.answer)}", *rules]
    return [f"start: {'called* text' if grammar.parallel else 'text | called'}", *rules, *_free_text(grammar, special)]


def _free_text(grammar: ToolGrammar, special: Mapping[str, int]) -> list[str]:
    """Rules for text, and for text that ends with the marker of a call, which is the first one in it."""
    marker = grammar.form.open
    others = ",".join(str(token) for text, token in special.items() if text != marker)
    text = f"(TEXT | <[{others}]>)*" if others else "TEXT?"
    rules = [f"text: {text}", r"TEXT: /(.|\n)+/"]
    if marker in special:
        return [f"called: text {_marker(marker, special)} call", *rules]
    before = f"(TEXT? <[{others}]>)*" if others else ""
    literal = re.sub(r"([^\w<>])", r"\\\1", marker)  # an escaped "<" is the beginning of a word
    return [f"called: {before} opened call", *rules, rf"opened[lazy]: /(.|\n)*{literal}/"]


def _call(tool: Tool, grammar: ToolGrammar) -> str:
    form = grammar.form
    begin = f"{form.before_name}{json.dumps(tool.name)}{form.before_arguments}"
    return f"{json.dumps(begin)} {_json(tool.schema)} {json.dumps(form.after_arguments)}"


def _marker(text: str, special: Mapping[str, int]) -> str:
    return f"<[{special[text]}]>" if text in special else json.dumps(text)


def _escape(found: re.Match[str]) -> str:
    return found[1] or {"/": r"\/", "\n": r"\n"}[found[0]]
