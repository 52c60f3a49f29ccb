"""The tokenizer of a version directory behind `TokenizerPort`."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lifecycle.errors import LifecycleError
from lifecycle.model.directory import read_config
from serving.domain.errors import InvalidRequest
from serving.domain.media import Media
from serving.domain.request import Prompt
from serving.infrastructure.tool_call_forms import form_of

TURN_ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
LONGEST_WINDOW = 64
"""Tokens the detokenizer keeps; only bytes that never become text reach it."""
LONGEST_UNFINISHED = 3
"""Bytes of a UTF-8 character without its last one: as many tokens may have to wait for the next."""


class HFTokenizer:
    """Any tokenizer that transformers opens. Thread-safe: encoding and decoding keep no state."""

    def __init__(self, directory: str | Path) -> None:
        try:
            config = read_config(directory)
            self._tokenizer = open_tokenizer(Path(directory), config.model_type)
            config = config.get_text_config()
        except (OSError, ValueError, StrictDataclassError) as error:
            raise LifecycleError(
                f"{directory} holds no tokenizer and config that transformers can open: {error}"
            ) from None
        self.directory = Path(directory)
        self.context_length: int = getattr(config, "max_position_embeddings", None) or self._tokenizer.model_max_length
        self.vocab_size: int = getattr(config, "vocab_size", None) or len(self._tokenizer)
        self.stop_token_ids = self._stop_tokens(Path(directory))
        self.tool_call_form = form_of(self._tokenizer.chat_template)
        self.clips_as_pictures = False
        self.sees: frozenset[str] = frozenset()

    @property
    def vocabulary(self) -> dict[str, int]:
        """Every token and its number."""
        return self._tokenizer.get_vocab()

    def serialized(self) -> str:
        """The whole tokenizer as the `tokenizers` library writes it. Raises InvalidRequest for one of another kind."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise InvalidRequest("this model's tokenizer is not one of the tokenizers library, which a grammar needs")
        copied = Tokenizer.from_str(backend.to_str())
        copied.no_padding()
        copied.no_truncation()
        return copied.to_str()

    def encode(self, text: str) -> list[int]:
        """Tokens of a raw prompt, with whatever the tokenizer puts in front of a text."""
        return self._tokenizer.encode(text)

    def render_text(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """The chat template applied. Raises InvalidRequest when the template refuses."""
        if not self._tokenizer.chat_template:
            raise InvalidRequest("this model has no chat template: use /v1/completions", param="messages")
        own = inspect.signature(self._tokenizer.apply_chat_template).parameters  # among them another template
        if taken := [name for name in variables if name in own]:
            raise InvalidRequest(f'"{taken[0]}" is no variable of a chat template', param="chat_template_kwargs")
        try:
            return self._tokenizer.apply_chat_template(
                [_with_parsed_arguments(message) for message in messages],
                **variables,
                tools=list(tools) if tools else None,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=continue_final_message,
                tokenize=False,
            )
        except Exception as error:  # a template is a program of the model's author, and variables come from anybody
            param = "chat_template_kwargs" if variables else "messages"
            message = f"the chat template refuses these messages: {str(error)[:300]}"
            raise InvalidRequest(message, param=param) from error

    def encode_rendered(self, text: str) -> list[int]:
        """Tokens of a rendered template, which brings all its special tokens itself."""
        return self._tokenizer.encode(text, add_special_tokens=False)

    def example(self) -> Prompt | None:
        """A prompt with a picture, to try a model with; None for one of texts."""
        return None

    def place(self, text: str, media: Sequence[Media]) -> Prompt:
        """Raises InvalidRequest: a model of texts sees nothing."""
        raise InvalidRequest("this model reads text only: leave pictures and clips out of the messages", param="messages")

    def render_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """Tokens of the prompt that asks for an answer to `messages`."""
        return self.encode_rendered(self.render_text(messages, tools))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return self._tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def detokenizer(self) -> IncrementalDetokenizer:
        return IncrementalDetokenizer(self)

    def _stop_tokens(self, directory: Path) -> frozenset[int]:
        stops = {self._tokenizer.eos_token_id}
        file = directory / "generation_config.json"
        declared = json.loads(file.read_text()).get("eos_token_id") if file.exists() else None
        stops.update(declared if isinstance(declared, list) else [declared])
        vocabulary = self._tokenizer.get_vocab()
        stops.update(vocabulary.get(token) for token in TURN_ENDS)
        return frozenset(stops - {None})


class IncrementalDetokenizer:
    """Text of a growing token list in O(new tokens): decodes a short window, not everything again.

    The window begins with tokens whose text is out already, because many tokenizers treat the first token of a text
    specially (its space). It is sent up to the last token after which the text does not end in U+FFFD: with a character
    unfinished, a decoder may show as broken even the finished ones before it (byte fallback decodes runs of bytes whole).
    """

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._decode = tokenizer.decode
        self._window: list[int] = []
        self._context = 0  # leading tokens of the window whose text was sent
        self._sent = 0  # characters of the window's text that were sent

    def push(self, tokens: Sequence[int]) -> str:
        """Text that the new tokens complete; may be empty."""
        self._window += tokens
        for held in range(min(LONGEST_UNFINISHED, len(self._window) - self._context) + 1):
            text = self._decode(self._window[: len(self._window) - held])
            if not text.endswith(REPLACEMENT):
                new = text[self._sent :]
                if new:
                    self._settle(held, drop=self._context)
                elif len(self._window) > LONGEST_WINDOW:  # special tokens only
                    self._settle(held, drop=len(self._window) - LONGEST_WINDOW // 4)
                return new
        if len(self._window) <= LONGEST_WINDOW:
            return ""
        text = self._decode(self._window[:-LONGEST_UNFINISHED])  # bytes that are no text at all: let them out
        new = text[self._sent :]
        self._settle(LONGEST_UNFINISHED, drop=len(self._window) - LONGEST_WINDOW // 4)
        return new

    def flush(self) -> str:
        """What is left at the end; a character that was never finished becomes U+FFFD."""
        new = self._decode(self._window)[self._sent :]
        self._window, self._context, self._sent = [], 0, 0
        return new

    def _settle(self, held: int, drop: int) -> None:
        """All text but that of the last `held` tokens is out: keep a little of it for context."""
        del self._window[:drop]
        self._context = len(self._window) - held
        self._sent = len(self._decode(self._window[: self._context]))


def open_tokenizer(directory: Path, model_type: str) -> PreTrainedTokenizerBase:
    """What AutoTokenizer gives. Where it would only look at the class's name, it is left out: importing it reads all of transformers' models' files."""
    file = directory / "tokenizer_config.json"
    named = json.loads(file.read_text()).get("tokenizer_class") if file.is_file() else None
    if model_type == "llama" and named == "TokenizersBackend":
        return PreTrainedTokenizerFast.from_pretrained(directory, local_files_only=True)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory, local_files_only=True)


def _with_parsed_arguments(message: dict[str, Any]) -> dict[str, Any]:
    """OpenAI sends tool-call arguments as a JSON string; most templates expect the object and would quote it twice."""
    if not isinstance(message, dict) or not isinstance(calls := message.get("tool_calls"), list):
        return message
    parsed = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(arguments := function.get("arguments"), str):
            with suppress(ValueError):  # a model's own broken call goes back to it as it was
                call = {**call, "function": {**function, "arguments": json.loads(arguments)}}
        parsed.append(call)
    return {**message, "tool_calls": parsed}
