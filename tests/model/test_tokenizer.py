"""Text survives the tokenizer, control tokens are single ids, and the template marks the assistant's words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle.errors import LifecycleError
from lifecycle.model.tokenizer import (
    ALL_RESERVED,
    END_OF_TEXT,
    MARKUP_TOKENS,
    SMALLEST_VOCABULARY,
    load_tokenizer,
    train_tokenizer,
)

TEXTS = ["Ann has 12 apples. Bob gives Ann 3 apples.", "Bob went to the garden with Ann."] * 20
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "unit": {"enum": ["m", "km"]}},
            "required": ["a", "b"],
        },
    },
}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 12, "b": 3}}}
CHAT = [
    {"role": "user", "content": "How much is 12 and 3?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "15"},
    {"role": "assistant", "content": "It is 15."},
]


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 320)


@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_reserved_tokens_are_single_ids_in_order(tokenizer):
    assert [tokenizer.encode(token) for token in ALL_RESERVED] == [[index] for index in range(len(ALL_RESERVED))]
    assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.encode(END_OF_TEXT)[0] == 0
    assert tokenizer.pad_token_id == 1


def test_decoding_hides_control_tokens_and_keeps_markup(tokenizer):
    shown = tokenizer.decode(range(len(ALL_RESERVED)), skip_special_tokens=True)
    assert shown == "".join(MARKUP_TOKENS)


def test_digits_are_single_tokens(tokenizer):
    assert tokenizer.tokenize("12 apples, 345") == ["1", "2", *tokenizer.tokenize(" apples, "), "3", "4", "5"]


def test_training_is_deterministic_and_survives_saving(tokenizer, tmp_path):
    again = train_tokenizer(TEXTS, 320)
    assert again.backend_tokenizer.to_str() == tokenizer.backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert loaded.encode(TEXTS[0] + "<tool_call>") == tokenizer.encode(TEXTS[0] + "<tool_call>")
    assert loaded.all_special_tokens == tokenizer.all_special_tokens
    assert loaded.apply_chat_template(CHAT, tokenize=False) == tokenizer.apply_chat_template(CHAT, tokenize=False)


def test_a_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(LifecycleError, match="too small"):
        train_tokenizer(TEXTS, SMALLEST_VOCABULARY - 1)


def test_the_template_writes_chatml_with_compact_tools(tokenizer):
    system = {"role": "system", "content": "Be brief."}
    assert tokenizer.apply_chat_template([system, *CHAT], tools=[ADD], tokenize=False, add_generation_prompt=True) == (
        "<|im_start|>system\nBe brief.\nadd(a: integer, b: integer, unit?: m|km) - Add two numbers.<|im_end|>\n"
        "<|im_start|>user\nHow much is 12 and 3?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "add", "arguments": {"a": 12, "b": 3}}</tool_call><|im_end|>\n'
        "<|im_start|>tool\n<tool_response>15</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nIt is 15.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_without_a_system_message_there_is_no_system_turn(tokenizer):
    assert (
        tokenizer.apply_chat_template(CHAT[:1], tokenize=False) == "<|im_start|>user\nHow much is 12 and 3?<|im_end|>\n"
    )


def test_content_may_be_a_list_of_parts_and_arguments_a_string(tokenizer):
    parts = [{"type": "text", "text": "Who is "}, {"type": "image"}, {"type": "text", "text": "?"}]
    assert tokenizer.apply_chat_template([{"role": "user", "content": parts}], tokenize=False).endswith(
        "Who is <|image|>?<|im_end|>\n"
    )
    as_text = {
        "role": "assistant",
        "content": "Adding.",
        "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 1}'}}],
    }
    assert (
        '\nAdding.\n<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call><|im_end|>'
        in tokenizer.apply_chat_template([as_text], tokenize=False)
    )


def test_the_mask_covers_exactly_what_the_assistant_says(tokenizer):
    marked = tokenizer.apply_chat_template(CHAT, tools=[ADD], return_dict=True, return_assistant_tokens_mask=True)
    said = [token for token, mask in zip(marked["input_ids"], marked["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(said) == (
        '<tool_call>{"name": "add", "arguments": {"a": 12, "b": 3}}</tool_call><|im_end|>It is 15.<|im_end|>'
    )


def test_the_generation_prompt_is_a_prefix_of_the_answer(tokenizer):
    asked = tokenizer.apply_chat_template(CHAT[:3], add_generation_prompt=True)["input_ids"]
    answered = tokenizer.apply_chat_template(CHAT)["input_ids"]
    assert answered[: len(asked)] == asked
