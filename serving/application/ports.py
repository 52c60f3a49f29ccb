"""What the use cases need from outside, as protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from serving.domain.events import Event
from serving.domain.request import Request


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot for metrics and the page. Counters only grow; times in seconds; `kv_*` count blocks."""

    policy: str
    waiting: int
    running: int
    kv_used: int
    kv_cached: int
    kv_total: int
    block_size: int
    steps: int
    prompt_tokens: int
    generated_tokens: int
    cached_tokens: int
    preemptions: int
    finished: dict[str, int]  # by finish reason
    step_seconds: float  # total time in steps
    uptime: float


class TokenStream(Protocol):
    """The mailbox of one request."""

    def next(self, timeout: float) -> list[Event]:
        """All events since the last call, waiting up to `timeout` seconds for the first; an empty list on time-out.

        After a `Finished` event nothing follows.
        """

    def cancel(self) -> None:
        """Give the request up; its blocks are free within one step. Safe at any time, more than once."""


class EnginePort(Protocol):
    """Runs many requests at once on one model."""

    def submit(self, request: Request) -> TokenStream:
        """Queue a request. Raises `ContextLengthExceeded`, `QueueFull` or `Draining`."""

    def cancel(self, request_id: str) -> None: ...

    def stats(self) -> EngineStats: ...

    def healthy(self) -> bool:
        """False when the loop is dead or no step finished for long while work waits."""

    def drain(self, timeout: float) -> bool:
        """Refuse new requests, wait for the running ones; True when all of them finished in time."""

    def close(self) -> None:
        """Stop the loop; whatever still runs gets a terminal `cancelled` event."""


class Detokenizer(Protocol):
    """Turns a growing list of tokens into text, never sending half a UTF-8 character."""

    def push(self, tokens: Sequence[int]) -> str:
        """Text that the new tokens complete; may be empty."""

    def flush(self) -> str:
        """What is left at the end."""


class TokenizerPort(Protocol):
    """Text and messages to tokens and back, for one model."""

    context_length: int
    stop_token_ids: frozenset[int]

    def encode(self, text: str) -> list[int]: ...

    def render_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """Chat template applied, generation prompt added. Raises `InvalidRequest(param="messages")`."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""

    def detokenizer(self) -> Detokenizer: ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded registry version: `name` is what clients write, `aliases` too; `version` like "sft/3"."""

    name: str
    version: str
    aliases: tuple[str, ...]
    created: int  # Unix seconds
    engine: EnginePort
    tokenizer: TokenizerPort
    default_sampling: dict[str, Any]  # from generation_config.json: temperature, top_p, top_k, max_tokens
    lineage: tuple[str, ...] = ()


class ModelCatalog(Protocol):
    """The models this server answers for."""

    def get(self, name: str) -> ServedModel:
        """By name, version or alias. Raises `ModelNotFound` naming what is served."""

    def all(self) -> list[ServedModel]: ...
