"""HFTokenizer and its detokenizer: the pieces add up to the whole, and no piece holds half a character."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.model.tokenizer import train_tokenizer
from serving.domain.errors import InvalidRequest
from serving.infrastructure.tokenizer import LONGEST_WINDOW, REPLACEMENT, HFTokenizer, open_tokenizer


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    path = tmp_path_factory.mktemp("version")
    train_tokenizer(["hello world, how are you 12 34? naïve café 😀 日本"] * 3, 320).save_pretrained(path)
    LlamaConfig(max_position_embeddings=77).save_pretrained(path)
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 9]}))
    return path


@pytest.fixture(scope="module")
def tokenizer(directory):
    return HFTokenizer(directory)


def stream(tokenizer, tokens, sizes):
    """Push in pieces of these sizes, over and over; returns what came out each time."""
    detokenizer, pieces, place, turn = tokenizer.detokenizer(), [], 0, 0
    while place < len(tokens):
        size = sizes[turn % len(sizes)]
        pieces.append(detokenizer.push(tokens[place : place + size]))
        place, turn = place + size, turn + 1
    return [*pieces, detokenizer.flush()]


@given(text=st.text(max_size=60), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_streamed_text_adds_up_and_never_holds_half_a_character(tokenizer, text, sizes):
    tokens = tokenizer.encode(text)
    pieces = stream(tokenizer, tokens, sizes)
    assert "".join(pieces) == tokenizer.decode(tokens)
    if REPLACEMENT not in text:
        assert not any(REPLACEMENT in piece for piece in pieces)


@given(tokens=st.lists(st.integers(0, 319), max_size=LONGEST_WINDOW), sizes=st.lists(st.integers(1, 4), min_size=1))
@settings(max_examples=150, deadline=None)
def test_any_tokens_stream_to_their_text(tokenizer, tokens, sizes):
    """Random tokens are full of broken characters and special tokens."""
    assert "".join(stream(tokenizer, tokens, sizes)) == tokenizer.decode(tokens)


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """Like Llama 2's: words carry their space, the text's first space is dropped, rare characters are spelt in bytes."""
    words = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581hello", "\u2581world", "ly", "\u2581"]
    bpe = Tokenizer(models.BPE({word: index for index, word in enumerate(words)}, [], byte_fallback=True))
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    path = tmp_path_factory.mktemp("sentencepiece")
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>").save_pretrained(path)
    LlamaConfig().save_pretrained(path)
    return HFTokenizer(path)


@given(
    parts=st.lists(st.sampled_from([[0], [257], [258], [259], [260], [1 + b for b in "日".encode()]]), max_size=20),
    sizes=st.lists(st.integers(1, 4), min_size=1),
)
@settings(max_examples=200, deadline=None)
def test_spaces_survive_a_tokenizer_that_drops_the_first_one(sentencepiece, parts, sizes):
    tokens = [token for part in parts for token in part]
    pieces = stream(sentencepiece, tokens, sizes)
    assert "".join(pieces) == sentencepiece.decode(tokens)
    assert not any(REPLACEMENT in piece for piece in pieces)


def test_an_endless_run_of_broken_bytes_stays_bounded(tokenizer):
    broken = tokenizer.encode("\N{ALCHEMICAL SYMBOL FOR AIR}")[0]  # the first of four bytes, never a text
    detokenizer = tokenizer.detokenizer()
    text = "".join(detokenizer.push([broken]) for _ in range(500))
    assert len(detokenizer._window) <= LONGEST_WINDOW
    assert set(text) == {REPLACEMENT}
    assert detokenizer.push(tokenizer.encode(" hello there"))[-11:] == "hello there"


def test_an_endless_run_of_special_tokens_stays_bounded(tokenizer):
    detokenizer = tokenizer.detokenizer()
    assert not any(detokenizer.push([0]) for _ in range(500))
    assert len(detokenizer._window) <= LONGEST_WINDOW
    assert detokenizer.push(tokenizer.encode("hello")) == "hello"


def test_context_and_stop_tokens_come_from_the_version(tokenizer):
    assert tokenizer.context_length == 77
    assert tokenizer.stop_token_ids == {0, 9, tokenizer.encode("<|im_end|>")[0]}


def test_chat_ends_with_the_assistants_turn(tokenizer):
    text = tokenizer._tokenizer.decode(tokenizer.render_chat([{"role": "user", "content": "hello"}]))
    assert text == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_tools_reach_the_template(tokenizer):
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    assert "weather(" in tokenizer.decode(tokenizer.render_chat([{"role": "user", "content": "hi"}], [tool]))


def test_tool_call_arguments_may_be_json_text_and_are_not_quoted_twice(tokenizer):
    def conversation(arguments):
        call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return tokenizer.render_chat([{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [call]}])

    assert conversation('{"a": 1}') == conversation({"a": 1})
    assert tokenizer.decode(conversation("{broken")).count("{broken") == 1


@pytest.mark.parametrize(
    "messages", [[{"role": "martian", "content": "x"}], ["text"], [{"role": "user", "content": 3}]]
)
def test_messages_that_the_template_refuses_are_the_clients_fault(tokenizer, messages):
    with pytest.raises(InvalidRequest) as refusal:
        tokenizer.render_chat(messages)
    assert refusal.value.param == "messages"


@pytest.mark.parametrize("named", ["TokenizersBackend", "LlamaTokenizer", None])
def test_it_is_the_tokenizer_that_transformers_opens(directory, named, tmp_path):
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    described = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**described, "tokenizer_class": named}))
    ours, theirs = open_tokenizer(tmp_path, "llama"), AutoTokenizer.from_pretrained(tmp_path)
    assert type(ours) is type(theirs) and ours.get_vocab() == theirs.get_vocab()
    for text in ("hello world, naïve 😀 日本", "<|im_end|> 12 <|pad|>"):
        assert ours.encode(text) == theirs.encode(text)
    assert ours.special_tokens_map == theirs.special_tokens_map and ours.chat_template == theirs.chat_template


def test_a_directory_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(LifecycleError, match=tmp_path.name):
        HFTokenizer(tmp_path)


def test_a_config_with_a_word_for_a_number_is_named(directory, tmp_path):
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))
    with pytest.raises(LifecycleError, match=tmp_path.name):
        HFTokenizer(tmp_path)
