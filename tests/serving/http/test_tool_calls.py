"""Tool calls: the same pieces for every chunking, and nothing that is not a sound call is lost."""

import json

from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import ByteTokenizer, chunked

from serving.application.tool_calls import CLOSE, OPEN, MarkerDetokenizer, ToolCall, ToolCallParser, parse_call

CALL = OPEN + '{"name": "add", "arguments": {"a": 1, "b": "é"}}' + CLOSE
SAYS_SO = OPEN + '{"name": "send", "arguments": {"text": "end it with \\"</tool_call>\\", please"}}' + CLOSE
PIECES = st.lists(
    st.sampled_from([CALL, OPEN, CLOSE, "text ", "\n", "<", "tool_", OPEN + "{broken}" + CLOSE, OPEN + "[]" + CLOSE, OPEN + '{"open' + CLOSE, SAYS_SO]),
    max_size=8,
)


def parse(chunks: list[str]) -> tuple[str, list[ToolCall]]:
    parser = ToolCallParser()
    pieces = [piece for chunk in chunks for piece in parser.push(chunk)] + list(parser.flush())
    text = "".join(piece for piece in pieces if isinstance(piece, str))
    return text, [piece for piece in pieces if isinstance(piece, ToolCall)]


@given(PIECES, st.lists(st.integers(0, 1000)))
def test_any_chunking_gives_the_same_text_and_calls(pieces, cuts):
    text = "".join(pieces)
    assert parse(chunked(text, cuts)) == parse([text])


@given(st.text(alphabet="<tool_cal>/ \nx{}", max_size=40), st.lists(st.integers(0, 1000)))
def test_text_without_calls_comes_out_unchanged(text, cuts):
    assert parse(chunked(text, cuts)) == (text, [])


def test_a_call_becomes_a_name_and_json_arguments():
    text, calls = parse(["Let me see.\n" + CALL + "\n" + CALL + "\n"])
    assert text == "Let me see."
    assert calls == [ToolCall("add", '{"a": 1, "b": "é"}')] * 2


def test_a_string_may_hold_the_marker_that_ends_a_call():
    (call,) = parse([SAYS_SO])[1]
    assert json.loads(call.arguments) == {"text": 'end it with "</tool_call>", please'}
    assert parse([SAYS_SO, CALL])[1] == [call, ToolCall("add", '{"a": 1, "b": "é"}')]


def test_a_string_without_an_end_costs_no_other_call():
    broken = OPEN + '{"name": "add' + CLOSE
    text, calls = parse([broken + "\n" + CALL + "\n" + broken])
    assert calls == [ToolCall("add", '{"a": 1, "b": "é"}')] and text.count("add") == 2


def test_a_broken_call_is_plain_text():
    broken = OPEN + '{"name": "add", "arguments": {"a": }' + CLOSE
    assert parse([broken]) == (broken, [])


def test_a_call_cut_short_is_plain_text():
    assert parse([CALL[:-4]]) == (CALL[:-4], [])


def test_what_is_not_a_call_is_refused():
    for block in (
        "",
        "null",
        "[1]",
        '"add"',
        "{}",
        '{"name": 1}',
        '{"name": ""}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": {"x": NaN}}',
        '{"name": "f", "arguments": {"x": 1e999}}',
        '{"name": "f", "arguments": {"x": "\\ud83d"}}',
        "[" * 100_000,
    ):
        assert parse_call(block) is None


def test_missing_arguments_are_an_empty_object():
    assert json.loads(parse_call('{"name": "now"}').arguments) == {}


@given(st.lists(st.integers(0, 1000)))
def test_markers_survive_a_tokenizer_that_drops_them(cuts):
    tokenizer = ByteTokenizer(special_markers=True)
    tokens = tokenizer.encode("é" + CALL + "!")
    assert OPEN not in tokenizer.decode(tokens)
    detokenizer = MarkerDetokenizer(tokenizer)
    bounds = sorted({0, len(tokens), *(cut % (len(tokens) + 1) for cut in cuts)})
    pairs = zip(bounds, bounds[1:], strict=False)
    text = "".join(detokenizer.push(tokens[start:end]) for start, end in pairs) + detokenizer.flush()
    assert text == "é" + CALL + "!"
