"""One answer on its way out: tokens -> text -> stop strings -> thought -> tool calls -> deltas."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from serving.application.deltas import (
    ChoiceFinished,
    ChoiceReason,
    Delta,
    PromptDelta,
    ScoredToken,
    SoundDelta,
    TextDelta,
    ThoughtDelta,
    ToolCallDelta,
)
from serving.application.ports import TokenizerPort, TokenStream
from serving.application.stop import StopStrings
from serving.application.thoughts import Thought, Thoughts
from serving.application.tool_calls import MarkerDetokenizer, ToolCall, ToolCallParser
from serving.domain.events import Finished, PromptScored, TokenLogprob, TokensGenerated

Piece = str | Thought | ToolCall


@dataclass(frozen=True, slots=True)
class OutputRules:
    """How tokens become an answer. `min_tokens`: a stop string completed by an earlier token does not count."""

    stop: tuple[str, ...] = ()
    min_tokens: int = 0
    parse_tools: bool = False
    parse_thoughts: bool = False
    thinking: bool = False
    """The prompt ends where a thought begins."""
    logprobs: bool = False
    sounds: range = range(0)
    """Tokens that are handed on as sound, and are no text."""
    scored_prompt: tuple[int, ...] = ()
    """Tokens of a prompt whose log-probabilities belong to the answer."""

    @property
    def token_by_token(self) -> bool:
        """Whether the answer depends on which token completed which character."""
        return bool(self.stop) or self.logprobs


class Choice:
    """Turns the mailbox of one request into deltas; ends with exactly one `ChoiceFinished`."""

    def __init__(self, index: int, stream: TokenStream, tokenizer: TokenizerPort, rules: OutputRules) -> None:
        self.index = index
        self.stream = stream
        self.finished = False
        self.completion_tokens = 0
        self.cached_tokens = 0
        self.thought_tokens = 0
        self._tokenizer = tokenizer
        self._rules = rules
        self._detokenizer = MarkerDetokenizer(tokenizer) if rules.parse_tools else tokenizer.detokenizer()
        self._stops = StopStrings(rules.stop)
        self._thoughts = Thoughts(rules.thinking) if rules.parse_thoughts else None
        self._tools = ToolCallParser()
        self._decoded = 0  # characters decoded so far, held back or not
        self._passed = 0  # characters that are past the stop strings
        self._answer_at = 0  # where the answer begins, behind what is thought, in characters
        self._scores: deque[ScoredToken] = deque()
        self._calls = 0
        self._prompt_scores: list[TokenLogprob] = []
        self._opened = False

    def receive(self, timeout: float) -> list[Delta]:
        """Deltas since the last call, waiting up to `timeout` seconds for the first; empty when nothing is new."""
        opening: list[Delta] = []
        pieces: list[Piece] = []
        sound: list[int] = []
        finish = None
        for event in self.stream.next(timeout):
            if isinstance(event, PromptScored):
                self._prompt_scores += event.logprobs
                continue
            if self._rules.scored_prompt and not self._opened:
                self._opened = True
                opening.append(PromptDelta(self.index, self._score_prompt()))
            if isinstance(event, Finished):
                pieces += self._flush()
                finish = event
            else:
                pieces += self._decode(event)
                sound += (token for token in event.tokens if token in self._rules.sounds)
        deltas = opening + self._deltas(pieces, last=finish is not None)
        if sound:
            deltas.append(SoundDelta(self.index, tuple(sound)))
        if finish is not None:
            deltas.append(self._finish(finish))
        return deltas

    def fail(self, message: str) -> ChoiceFinished:
        """Give up on an engine that will never send the terminal event."""
        self.stream.cancel()
        self.finished = True
        return ChoiceFinished(self.index, "error", message)

    def _decode(self, event: TokensGenerated) -> Iterator[Piece]:
        at = 0
        while at < len(event.tokens) and not self._stops.stopped:
            thinks = self._thoughts is not None and not self._thoughts.over  # or may begin to
            size = 1 if self._rules.token_by_token or thinks else len(event.tokens) - at
            self._scores += (self._score(one) for one in event.logprobs[at : at + size])
            self.completion_tokens += size
            inside = thinks and self._thoughts.inside
            yield from self._pass(self._detokenizer.push(event.tokens[at : at + size]))
            if thinks and (inside or self._thoughts.inside):
                self.thought_tokens = self.completion_tokens  # whatever is thought comes first
            at += size

    def _flush(self) -> Iterator[Piece]:
        """The end of the answer: nothing is held back any more."""
        if not self._stops.stopped:
            yield from self._pass(self._detokenizer.flush())
        yield from self._parse(self._stops.flush())
        if self._thoughts is not None:
            yield from self._find_calls(self._split(self._thoughts.flush()))
        if self._rules.parse_tools:
            yield from self._tools.flush()

    def _pass(self, text: str) -> Iterator[Piece]:
        """New text through the stop strings; one of them ends the request."""
        self._decoded += len(text)
        text = self._stops.push(text, armed=self.completion_tokens >= self._rules.min_tokens)
        self._passed += len(text)
        if self._stops.stopped:
            self._scores = deque(score for score in self._scores if score.offset < self._passed)
            self.stream.cancel()
        yield from self._parse(text)

    def _parse(self, text: str) -> Iterator[Piece]:
        if self._thoughts is not None:
            return self._find_calls(self._split(self._thoughts.push(text)))
        return self._find_calls([text] if text else [])

    def _split(self, pieces: Iterator[str | Thought]) -> list[str | Thought]:
        """Thought and answer, and where the one ends."""
        thinks = not self._thoughts.over
        found = list(pieces)
        if thinks:
            self._answer_at = self._passed - sum(len(piece) for piece in found if isinstance(piece, str))
        return found

    def _find_calls(self, pieces: Iterable[str | Thought]) -> Iterator[Piece]:
        for piece in pieces:
            if self._rules.parse_tools and isinstance(piece, str):
                yield from self._tools.push(piece)
            else:
                yield piece

    def _deltas(self, pieces: list[Piece], *, last: bool) -> list[Delta]:
        """Neighbouring pieces of text, or of thought, become one delta."""
        deltas: list[Delta] = []
        for kind, group in groupby(pieces, key=type):
            if kind is Thought:
                deltas.append(ThoughtDelta(self.index, "".join(piece.text for piece in group), self._take_scores(self._answer_at)))
                continue
            if marker := self._take_scores(self._answer_at):
                deltas.append(ThoughtDelta(self.index, "", marker))
            if kind is str:
                deltas.append(TextDelta(self.index, "".join(group), self._take_scores(self._passed)))
            else:
                deltas += (self._tool_call(call) for call in group)
        if last and self._scores:
            deltas.append(TextDelta(self.index, "", self._take_scores(math.inf)))
        return deltas

    def _tool_call(self, call: ToolCall) -> ToolCallDelta:
        self._calls += 1
        return ToolCallDelta(self.index, self._calls - 1, f"call_{uuid.uuid4().hex[:24]}", call.name, call.arguments)

    def _finish(self, event: Finished) -> ChoiceFinished:
        self.finished = True
        self.cached_tokens = event.cached_tokens
        reason: ChoiceReason = "stop" if self._stops.stopped else event.reason
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        return ChoiceFinished(self.index, reason, event.error if reason in ("error", "cancelled") else None)

    def _score_prompt(self) -> tuple[ScoredToken, ...]:
        """A request that was given up early has fewer scores than tokens: the rest is left out."""
        detokenizer, decode, offset = self._tokenizer.detokenizer(), self._tokenizer.decode, 0
        scores: list[ScoredToken] = []
        for token, known in zip(self._rules.scored_prompt, [None, *self._prompt_scores], strict=False):
            top = tuple((decode((other,)), logprob) for other, logprob in known.top) if known else ()
            scores.append(ScoredToken(decode((token,)), known and known.logprob, offset, top))
            offset += len(detokenizer.push((token,)))
        return tuple(scores)

    def _score(self, token: TokenLogprob) -> ScoredToken:
        name = self._tokenizer.decode
        top = tuple((name((other,)), logprob) for other, logprob in token.top)
        return ScoredToken(name((token.token,)), token.logprob, self._decoded, top)

    def _take_scores(self, before: float) -> tuple[ScoredToken, ...]:
        """Scores of the tokens whose text begins before that character."""
        taken = []
        while self._scores and self._scores[0].offset < before:
            taken.append(self._scores.popleft())
        return tuple(taken)
