"""One conversation: what was said, and how an answer with tool calls goes round until it is an answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from serving.chat.client import ChatClient
from serving.chat.tools import LocalTools

MOST_ROUNDS = 8
"""Times that a model may call tools before it has to answer."""


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call that was carried out."""

    name: str
    arguments: str
    result: str


@dataclass(slots=True)
class Conversation:
    """Messages in the form of the API; `options` go with every request (temperature, max_tokens, ...)."""

    client: ChatClient
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: LocalTools = field(default_factory=LocalTools)
    system: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)
    attached: list[dict[str, Any]] = field(default_factory=list)
    """Pictures and clips that go with what is said next."""

    def everything(self) -> list[dict[str, Any]]:
        """The messages with the system prompt in front."""
        return [{"role": "system", "content": self.system}, *self.messages] if self.system else list(self.messages)

    def ask(
        self,
        text: str,
        on_text: Callable[[str], None],
        on_call: Callable[[Called], None],
        on_thought: Callable[[str], None] = lambda _: None,
    ) -> str:
        """Send what a person says, and tell about the answer as it comes; returns the last finish reason.

        Interrupted (KeyboardInterrupt), the text so far stays as the answer. Raises Refused, and nothing was said then.
        """
        known = len(self.messages)
        content = [*self.attached, {"type": "text", "text": text}] if self.attached else text
        self.messages.append({"role": "user", "content": content})
        try:
            for left in range(MOST_ROUNDS, -1, -1):
                reason, calls = self._round(on_text, on_thought, may_call=left > 0)
                self.attached = []
                if not calls:
                    return reason
                self._carry_out(calls, on_call)
            return reason
        except KeyboardInterrupt:
            raise
        except BaseException:
            del self.messages[known:]
            raise

    def _round(self, on_text: Callable[[str], None], on_thought: Callable[[str], None], *, may_call: bool) -> tuple[str, list[dict[str, Any]]]:
        """One request: (finish reason, tool calls), and the assistant's message is in the history."""
        body = {"model": self.model, "messages": self.everything(), **self.options}
        if self.tools.schemas:
            body |= {"tools": list(self.tools.schemas), "tool_choice": "auto" if may_call else "none"}
        text, thought, reason, calls = "", "", "stop", {}
        complete = False
        try:
            with closing(self.client.stream(body)) as choices:
                for choice in choices:
                    delta = choice["delta"]
                    if piece := delta.get("reasoning_content"):
                        thought += piece
                        on_thought(piece)
                    if piece := delta.get("content"):
                        text += piece
                        on_text(piece)
                    for part in delta.get("tool_calls") or ():
                        _merge(calls, part)
                    reason = choice.get("finish_reason") or reason
            complete = True
        finally:
            message: dict[str, Any] = {"role": "assistant", "content": text}
            if thought:
                message["reasoning_content"] = thought
            found = [calls[index] for index in sorted(calls)] if complete else []  # half a call is none
            if found:
                message["tool_calls"] = found
            self.messages.append(message)
        return reason, found

    def _carry_out(self, calls: list[dict[str, Any]], on_call: Callable[[Called], None]) -> None:
        """Every call has its answer in the history, also those that an interruption leaves undone."""
        results = {call["id"]: "error: interrupted" for call in calls}
        try:
            for call in calls:
                function = call["function"]
                results[call["id"]] = result = self.tools.call(function["name"], function["arguments"])
                on_call(Called(function["name"], function["arguments"], result))
        finally:
            for call in calls:
                self.messages.append(
                    {
                        "role": "tool",
                        "tool_call_id": call["id"],
                        "name": call["function"]["name"],
                        "content": results[call["id"]],
                    }
                )


def _merge(calls: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a piece of a streamed tool call: id and name come once, the arguments bit by bit."""
    call = calls.setdefault(part["index"], {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
    call["id"] = part.get("id") or call["id"]
    piece = part.get("function") or {}
    call["function"]["name"] += piece.get("name") or ""
    call["function"]["arguments"] += piece.get("arguments") or ""
