"""Grammars through llguidance: an Earley parser over derivatives of regular expressions, walked along a trie of all tokens.

Chosen by measurement beside xgrammar: `benchmarks/constrained.md`.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from serving.domain.errors import GrammarTooComplex, InvalidRequest
from serving.domain.grammar import Constraint, Grammar, ToolGrammar
from serving.infrastructure.lark import lark
from serving.infrastructure.tokenizer import HFTokenizer

log = logging.getLogger(__name__)

MOST_CHARACTERS = 100_000
MOST_KEPT = 128
LIMITS = LLParserLimits(
    initial_lexer_fuel=1_000_000,  # some 20 ms
    step_lexer_fuel=200_000,  # some 15 ms
    step_max_items=50_000,
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""What a grammar may cost: a request that exceeds it while it is compiled is refused, later it ends with an error."""


class TokenMatcher:
    """A `Matcher`."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def advance(self, tokens: Sequence[int]) -> None:
        """The answer goes on with these, which were allowed. Raises GrammarTooComplex."""
        if not self._matcher.consume_tokens(list(tokens)):
            self._fail()

    def rewind(self, count: int) -> None:
        """Take the last `count` tokens back."""
        if count:
            self._matcher.rollback(count)

    def agreeing(self, tokens: Sequence[int]) -> int:
        """How many of these may come next, one after the other."""
        return self._matcher.validate_tokens(list(tokens))

    def allowed(self) -> bytes:
        """One bit per token. Raises GrammarTooComplex."""
        mask = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            self._fail()
        return mask

    def _fail(self) -> None:
        log.warning("a grammar failed: %s", _short(self._matcher.get_error()))
        raise GrammarTooComplex


class Grammars:
    """A `GrammarCompiler` for one tokenizer. The last `MOST_KEPT` grammars stay compiled."""

    def __init__(self, tokenizer: HFTokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: LLTokenizer | None = None
        self._special: dict[str, int] = {}
        self._kept: OrderedDict[Constraint, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self.requests = 0
        self.seconds = 0.0

    def start(self, constraint: Constraint) -> TokenMatcher:
        """A matcher at the beginning of an answer. Raises InvalidRequest."""
        with self._lock:
            self.requests += 1
            if (kept := self._kept.get(constraint)) is not None:
                self._kept.move_to_end(constraint)
                return TokenMatcher(kept.deep_copy())
            # One at a time: a client with many large grammars must not take every core from the engine.
            started = time.perf_counter()
            try:
                compiled = self._compile(constraint)
            finally:
                self.seconds += time.perf_counter() - started
            self._kept[constraint] = compiled
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return TokenMatcher(compiled.deep_copy())

    def _compile(self, constraint: Constraint) -> LLMatcher:
        for part in _parts(constraint):
            if len(part.text) > MOST_CHARACTERS:
                raise _refuse(part, f"more than {MOST_CHARACTERS} characters")
        try:
            program = LLMatcher.grammar_from_lark(lark(constraint, self._special_tokens()))
        except (ValueError, AssertionError, IndexError) as error:
            raise _refuse(_parts(constraint)[-1], str(error)) from None
        matcher = LLMatcher(self._tokens(), program, log_level=0, limits=LIMITS)
        if not matcher.is_error():
            matcher.compute_bitmask()  # what is too complex shows here, and what is not is prepared
        if matcher.is_error():
            raise self._guilty(constraint, matcher.get_error())
        return matcher

    def _guilty(self, constraint: Constraint, error: str) -> InvalidRequest:
        """The error of the part that is wrong by itself, or of the whole."""
        if isinstance(constraint, ToolGrammar):
            for part in _parts(constraint):
                with suppress(ValueError):
                    program = LLMatcher.grammar_from_lark(lark(part, self._special))
                    if wrong := LLMatcher.validate_grammar(program, self._tokens(), limits=LIMITS):
                        return _refuse(part, wrong)
        return _refuse(_parts(constraint)[0], error)

    def _tokens(self) -> LLTokenizer:
        """The trie of all tokens: a quarter of a second for 49 thousand, so not before somebody needs it."""
        if self._vocabulary is None:
            stops = sorted(self._tokenizer.stop_token_ids)
            if not stops:
                raise InvalidRequest("this model has no token that ends an answer, which a grammar needs")
            self._vocabulary = LLTokenizer(self._tokenizer.serialized(), eos_token=stops)
            self._special = {
                text: token
                for text, token in self._tokenizer.vocabulary.items()
                if self._vocabulary.is_special_token(token) and token not in stops
            }
        return self._vocabulary

    def _special_tokens(self) -> dict[str, int]:
        self._tokens()
        return self._special


def _parts(constraint: Constraint) -> list[Grammar]:
    """What the client wrote, each with its field."""
    if isinstance(constraint, Grammar):
        return [constraint]
    tools = [Grammar("json_schema", tool.schema, tool.param) for tool in constraint.tools]
    return tools if constraint.answer is None else [*tools, constraint.answer]


KINDS = {"json_schema": "JSON schema", "regex": "regular expression", "choice": "list of choices", "grammar": "grammar"}


def _refuse(part: Grammar, error: str) -> InvalidRequest:
    reason = _short(error)
    if part.kind != "grammar":  # a place in a text that the client has not written
        reason = re.sub(r"^at \d+\(\d+\): (?:failed to compile JSON schema: )?", "", reason)
    reason = reason.replace("Unimplemented keys", "unsupported keywords")
    return InvalidRequest(
        f"this {KINDS[part.kind]} cannot be served: {reason}", param=part.param, code="invalid_grammar"
    )


def _short(error: str) -> str:
    """Without the parser's state and the lines around the mistake."""
    return " ".join(re.split(r"\n(?:<(?:state|non-verbose)|\s*\d+ \|)", error)[0].split())[:300]
