"""Finds `<tool_call>{"name": ..., "arguments": {...}}</tool_call>` in a stream of text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from serving.application.ports import TokenizerPort
from serving.application.stop import overlap

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_QUOTES = re.compile(r'\\.|"', re.DOTALL)
"""Where JSON's strings begin and end, and what is escaped in them."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call. `arguments` is the JSON text of an object, as clients expect it."""

    name: str
    arguments: str


class ToolCallParser:
    """Splits an answer into plain text and tool calls, the same for every chunking.

    A call comes out whole, because only the closing marker tells whether its JSON is sound; what is not a sound
    call comes out as the plain text it is. A closing marker inside one of the call's strings is what somebody wants to say, unless the
    string never ends. White space around calls is layout and is dropped.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._held = ""
        self._inside = False
        self._layout = ""  # white space that counts only if text follows
        self._after_call = False

    def push(self, text: str) -> Iterator[str | ToolCall]:
        """What `text` completes, in order."""
        self._held += text
        while (at := self._end() if self._inside else self._held.find(OPEN)) >= 0:
            before = self._held[:at]
            if self._inside:
                self._held = self._held[at + len(CLOSE) :]
                yield from self._close(before)
            else:
                self._held = self._held[at + len(OPEN) :]
                yield from self._plain(before)
            self._inside = not self._inside
        if not self._inside:
            keep = overlap(self._held, OPEN)
            safe, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
            yield from self._plain(safe)

    def flush(self) -> Iterator[str | ToolCall]:
        """The rest, once the answer has ended: a call cut short is plain text."""
        while self._inside and CLOSE in self._held:  # in a string without an end
            block, _, rest = self._held.partition(CLOSE)
            self._held, self._inside = "", False
            yield from self._close(block)
            yield from self.push(rest)
        rest = (OPEN if self._inside else "") + self._held
        self._held, self._inside = "", False
        yield from self._plain(rest)
        if self._layout and not self.calls:
            yield self._layout

    def _end(self) -> int:
        """Where the call ends that has begun; -1: not yet."""
        first = at = self._held.find(CLOSE)
        while at >= 0 and _QUOTES.findall(self._held[:at]).count('"') % 2:
            at = self._held.find(CLOSE, at + 1)
        return at if at in (-1, first) or parse_call(self._held[:at]) else first

    def _close(self, block: str) -> Iterator[str | ToolCall]:
        call = parse_call(block)
        if call is None:
            yield from self._plain(OPEN + block + CLOSE)
        else:
            self.calls += 1
            self._layout, self._after_call = "", True
            yield call

    def _plain(self, text: str) -> Iterator[str]:
        text = self._layout + text
        if self._after_call:
            text = text.lstrip()
        body = text.rstrip()
        self._layout = text[len(body) :]
        if body:
            self._after_call = False
            yield body


def parse_call(block: str) -> ToolCall | None:
    """The call written between two markers, or None when it is not one. No arguments means an empty object."""
    try:
        call = json.loads(block, parse_constant=_refuse_constant)
        name, arguments = call["name"], call.get("arguments")
        arguments = {} if arguments is None else arguments
        written = json.dumps(arguments, ensure_ascii=False, allow_nan=False)  # 1e999 is read as infinity
        (written + name).encode()  # half of a surrogate pair is no text
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    if not name or not isinstance(arguments, dict):
        return None
    return ToolCall(name, written)


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


class MarkerDetokenizer:
    """A detokenizer that keeps the call markers even where the tokenizer counts them as special and drops them."""

    def __init__(self, tokenizer: TokenizerPort) -> None:
        self._tokenizer = tokenizer
        self._inner = tokenizer.detokenizer()
        self._dropped = {}
        start = len(tokenizer.encode(""))  # some tokenizers begin every text with a token of their own
        for marker in (OPEN, CLOSE):
            ids = tokenizer.encode(marker)[start:]
            if len(ids) == 1 and not tokenizer.decode(ids):
                self._dropped[ids[0]] = marker

    def push(self, tokens: Sequence[int]) -> str:
        """Text that the new tokens complete, markers included."""
        if self._dropped.keys().isdisjoint(tokens):
            return self._inner.push(tokens)
        text = ""
        for token in tokens:
            if token in self._dropped:
                text += self._inner.flush() + self._dropped[token]
                self._inner = self._tokenizer.detokenizer()
            else:
                text += self._inner.push((token,))
        return text

    def flush(self) -> str:
        """What is left at the end."""
        return self._inner.flush()
