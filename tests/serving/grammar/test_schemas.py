"""Grammars by themselves: whatever is chosen among the allowed tokens, the text is one that was asked for."""

from __future__ import annotations

import json
import random

import jsonschema
import numpy as np
import pytest

from serving.bench.schemas import draw, draw_tool
from serving.domain.errors import InvalidRequest
from serving.domain.grammar import Grammar, Tool, ToolCallForm, ToolGrammar
from serving.infrastructure.lark import lark
from serving.infrastructure.tool_call_forms import COMPACT, form_of

TEXTUAL = ToolCallForm("[CALL]", "[/CALL]")


def allowed(matcher):
    return np.flatnonzero(np.unpackbits(np.frombuffer(matcher.allowed(), np.uint8), bitorder="little")).tolist()


def wander(matcher, tokenizer, rng, limit=600):
    """A text of random allowed tokens that ends as soon as it may."""
    tokens = []
    for _ in range(limit):
        possible = allowed(matcher)
        if tokenizer.stop_token_ids & set(possible):
            return tokenizer.decode(tokens)
        tokens.append(rng.choice(possible))
        matcher.advance(tokens[-1:])
    raise AssertionError(f"no end: {tokenizer.decode(tokens)!r}")


def read(matcher, tokenizer, text):
    """How much of a text is allowed, as text."""
    tokens = tokenizer.encode(text)
    return tokenizer.decode(tokens[: matcher.agreeing(tokens)])


@pytest.mark.parametrize("seed", range(60))
def test_random_schemas_are_satisfied_by_whatever_is_chosen(grammars, tokenizer, seed):
    rng = random.Random(seed)
    schema, value = draw(rng, 3)
    constraint = Grammar("json_schema", json.dumps(schema))
    jsonschema.validate(json.loads(wander(grammars.start(constraint), tokenizer, rng)), schema)
    jsonschema.validate(value, schema)
    assert read(grammars.start(constraint), tokenizer, json.dumps(value, ensure_ascii=False)) == json.dumps(
        value, ensure_ascii=False
    )


def tools(seed, form, **fields):
    rng = random.Random(seed)
    drawn = [draw_tool(rng, name) for name in ("one", "two")]
    offered = tuple(Tool(name, json.dumps(tool["function"]["parameters"])) for name, (tool, _) in zip(("one", "two"), drawn, strict=True))
    return ToolGrammar(offered, form, **fields), [arguments for _, arguments in drawn]


def call(name, arguments, form):
    return f'{form.open}{{"name": "{name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}{form.close}'


@pytest.mark.parametrize("form", [TEXTUAL, COMPACT], ids=["text", "token"])
@pytest.mark.parametrize("seed", range(6))
def test_free_text_is_free_until_a_call_begins(grammars, tokenizer, form, seed):
    constraint, (arguments, _) = tools(seed, form)
    right, marker = call("one", arguments, form), tokenizer.decode(tokenizer.encode(form.open))
    shown = right if marker else right.replace(form.open, "").replace(form.close, "")
    text = f"so <b {form.open[:3]} - {right}\nand {right} done"
    assert read(grammars.start(constraint), tokenizer, text) == text.replace(right, shown)
    assert len(read(grammars.start(constraint), tokenizer, f"hm {form.open}no")) <= len(f"hm {form.open}")
    wrong = call("three", arguments, form)
    assert "three" not in read(grammars.start(constraint), tokenizer, wrong)


@pytest.mark.parametrize("form", [TEXTUAL, COMPACT], ids=["text", "token"])
def test_one_call_and_then_the_end(grammars, tokenizer, form):
    constraint, (arguments, _) = tools(1, form, parallel=False)
    matcher = grammars.start(constraint)
    matcher.advance(tokenizer.encode("so " + call("one", arguments, form)))
    assert set(allowed(matcher)) == set(tokenizer.stop_token_ids)


def test_masks_after_a_rewind_are_those_of_before(grammars, tokenizer):
    rng = random.Random(0)
    matcher = grammars.start(Grammar("json_schema", json.dumps(draw(rng, 3)[0])))
    for _ in range(8):
        before = matcher.allowed()
        possible = [token for token in allowed(matcher) if token not in tokenizer.stop_token_ids]
        if not possible:
            break
        token = rng.choice(possible)
        matcher.advance([token])
        matcher.rewind(1)
        assert matcher.allowed() == before
        matcher.advance([token])


@pytest.mark.parametrize(
    "keyword",
    [
        {"uniqueItems": True}, {"not": {}}, {"if": {}}, {"contains": {}}, {"propertyNames": {}}, {"minContains": 1},
        {"dependentRequired": {}}, {"dependentSchemas": {}}, {"unevaluatedProperties": False}, {"unevaluatedItems": False},
        {"dependencies": {"a": ["b"]}}, {"$dynamicRef": "#x"},
    ],
    ids=lambda keyword: next(iter(keyword)),
)  # fmt: skip
def test_a_keyword_that_cannot_be_kept_is_named(grammars, keyword):
    with pytest.raises(InvalidRequest, match=next(iter(keyword)).lstrip("$")):
        grammars.start(Grammar("json_schema", json.dumps({"type": ["object", "array"], **keyword})))


def test_the_form_of_calls_is_told_from_the_template():
    assert form_of(None) == form_of("plain") == COMPACT
    assert form_of(r"'<tool_call>\n{\"name\": \"'").before_name.startswith("\n")


@pytest.mark.parametrize("marker", ["<tool_call>", "[TOOL_CALLS]"])
def test_a_marker_that_is_no_token_is_text_like_any_other(marker):
    from llguidance import LLMatcher

    form = ToolCallForm(marker, "")
    told = lark(ToolGrammar((Tool("add", '{"type": "object"}'),), form), special={})
    assert LLMatcher.validate_grammar(told) == ""
