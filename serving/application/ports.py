"""What the use cases need from outside, as protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from serving.application.speech import NativeSpeech
from serving.application.watch import EngineWatch
from serving.domain.blocks import BlockMap
from serving.domain.events import Event, TokenLogprob
from serving.domain.grammar import ToolCallForm
from serving.domain.grid import Grid
from serving.domain.media import Media, Placement
from serving.domain.request import Prompt, Request, SamplingParams


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
    drafts: int = 0  # steps of a sequence that came with guesses
    draft_tokens: int = 0  # guessed
    accepted_tokens: int = 0  # guessed right
    parts: Mapping[str, float] = field(default_factory=dict)  # seconds of a step's parts, those of the backend included
    grammar_requests: int = 0  # answers that had to satisfy a grammar
    grammar_compile_seconds: float = 0.0  # on the threads of the requests, not in steps
    replicas: int = 1  # engines that these are the figures of

    @property
    def capacity(self) -> int:
        """Tokens that the KV pool of one engine has room for."""
        return self.kv_total // max(1, self.replicas) * self.block_size


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request that waits or runs, as whoever runs the server sees it. `age` in seconds."""

    id: str
    tenant: str
    state: str  # waiting or running
    prompt_tokens: int
    generated_tokens: int
    max_tokens: int
    priority: int
    age: float


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
        """Queue a request.

        Raises `InvalidRequest`, `ContextLengthExceeded`, `ModelNotFound` (its adapter has gone), `QueueFull` or `Draining`.
        """

    def cancel(self, request_id: str, why: str | None = None) -> None:
        """End a request; `why` is what its client is told. Unknown ids are ignored."""

    def unfinished(self) -> list[RunningRequest]:
        """What waits or runs, oldest first. Never waits for the engine: a stuck one is when somebody looks."""

    def stats(self) -> EngineStats: ...

    def swap_policy(self, name: str) -> None:
        """Change the batching policy between two steps; nothing is lost. Raises `UnknownPolicy`."""

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """Requests may name the adapter from now on; others go on meanwhile. Raises LifecycleError when it does not fit."""

    def remove_adapter(self, adapter_id: str, timeout: float) -> bool:
        """Refuse new requests that name it, wait for the others, cancel those that take longer than `timeout` s.

        True when none did.
        """

    def block_map(self) -> BlockMap:
        """Who has which KV block between two steps. Raises `Draining` when closed, TimeoutError during a long step."""

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
    vocab_size: int
    """Token ids are below it."""
    stop_token_ids: frozenset[int]
    tool_call_form: ToolCallForm
    """How the model writes a tool call."""
    clips_as_pictures: bool
    """Whether a clip is shown to the model as its frames, each a picture."""

    def encode(self, text: str) -> list[int]: ...

    def render_text(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """The chat template applied. Raises `InvalidRequest` naming the field that it refuses."""

    def encode_rendered(self, text: str) -> list[int]:
        """Tokens of a rendered template, which brings all its special tokens itself."""

    def place(self, text: str, media: Sequence[Media]) -> Prompt:
        """The same with pictures and clips where the template left their placeholders. Raises `InvalidRequest`."""

    def render_chat(
        self, messages: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]] | None = None
    ) -> list[int]:
        """Tokens of the prompt that asks for an answer to `messages`."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Text without special tokens."""

    def detokenizer(self) -> Detokenizer: ...


Embed = Callable[[Sequence[tuple[int, ...]]], list[list[float]]]
"""Token sequences to unit vectors, in any thread."""


class Gaze(Protocol):
    """Tells where a model that sees looked as it wrote, on the caller's thread."""

    def grids(self, picture: Media, prompt: Prompt, number: int) -> tuple[Grid, ...]:
        """Where the tokens of picture `number` of a prompt lie in it. Raises `AttentionUndefined`."""

    def thumbnail(self, frame: Any) -> str:
        """A data: address of a small copy of a uint8 RGB array [height, width, 3]."""

    def __call__(self, prompt: Prompt, answer: Sequence[int]) -> Any:
        """[layers, answer tokens, prompt + answer] attention, a tensor: the mean over the heads; each row sums to 1.

        Row 0 is that of the prompt's last token, from which the first of the answer follows. Raises
        `ContextLengthExceeded`, `AttentionUndefined`, and `QueueFull` while others compute.
        """


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
    adapter: str | None = None  # id of a low-rank adapter, which answers through the engine of its `parent`
    parent: str | None = None  # name of the model whose engine it is
    embed: Embed | None = None  # None: it makes no vectors
    watch: EngineWatch | None = None  # None: an engine in whose work nobody can look
    sees: frozenset[str] = frozenset()  # kinds of media that it takes: "image", "video"
    gaze: Gaze | None = None  # None: nobody can tell where it looks
    speech: NativeSpeech | None = None  # None: others hear and speak for it

    @property
    def capacity(self) -> int:
        """Tokens of prompt and answer together that one request may have."""
        return min(self.tokenizer.context_length, self.engine.stats().capacity)


class ModelCatalog(Protocol):
    """The models this server answers for."""

    def get(self, name: str) -> ServedModel:
        """By name, version or alias. Raises `ModelNotFound` naming what is served."""

    def all(self) -> list[ServedModel]:
        """Adapters included; never empty, and the first one answers requests that name no model."""

    def version_of(self, name: str) -> str:
        """The version that a name means, or meant when it answered. Raises `ModelNotFound`."""

    def engines(self) -> list[ServedModel]:
        """One model per engine: without adapters, which share that of their parent."""

    def retiring(self) -> list[ServedModel]:
        """Those that answer nobody new and finish what they began; no name among them is anybody else's."""

    def load(self, ref: str, *, adapters: bool = False, kv_memory_mb: int | None = None) -> ServedModel:
        """Serve a registry version, too. Raises `InvalidRequest`, or `Conflict` when there is no room for it."""

    def unload(self, name: str, timeout: float) -> bool:
        """Take no new requests for a model or adapter, let the others finish, free it; True when all of them did.

        Raises `ModelNotFound`, or `Conflict` for the last model and for one with adapters.
        """

    def swap(self, ref: str, name: str | None = None, *, kv_memory_mb: int | None = None) -> ServedModel:
        """Serve a registry version in place of a model, by default the first one, for all new requests.

        Those that run finish where they began. Raises `InvalidRequest`, `ModelNotFound` or `Conflict`; then nothing changed.
        """

    def take_over(self, name: str, place: str) -> ServedModel:
        """Let a served model answer in the place of another, under its names too; the other one finishes what it began."""

    def set_alias(self, alias: str, name: str) -> ServedModel:
        """Another name for a model; one that is an alias already moves. Raises `ModelNotFound` or `Conflict`."""

    def remove_alias(self, alias: str) -> ServedModel:
        """The model that it meant. Raises `ModelNotFound`."""

    def add_adapter(self, name: str, ref: str, base: str | None = None) -> ServedModel:
        """Serve an adapter of a served model under a name of its own. Raises `InvalidRequest` or `Conflict`."""


@dataclass(frozen=True, slots=True)
class Plain:
    """How to choose a token by the model's own logits: the likeliest, or drawn by its probability at a temperature.

    The same `seed` and `position` (how many tokens were generated before) draw the same from the same logits. Of several rows
    of a slice each is one position further.
    """

    temperature: float = 0.0
    """0: the likeliest."""
    seed: int = 0
    position: int = 0


LIKELIEST = Plain()


@dataclass(frozen=True, slots=True)
class SequenceSlice:
    """One sequence's share of a packed step: `tokens` at positions `start`, `start + 1`, ...

    `block_table` lists the KV blocks in position order and covers the whole slice; everything before `start` is in them
    already. `num_logits` asks for the logits that follow the slice's last `num_logits` tokens; 0 for none. Where the
    backend may choose what follows them itself, `plain` says how. `ahead` asks a backend that `goes_ahead` for so many
    more tokens, each computed from the one chosen before it; it is the same in all slices of a step, and not 0 only
    where each has one token and is plain. The table covers them.
    `adapter` is the id of one that the backend was given. `media` are all of the prompt's pictures, and `positions` the
    prompt's, as those of a `Prompt`.
    """

    id: str
    tokens: Sequence[int]
    start: int
    block_table: Sequence[int]
    num_logits: int
    plain: Plain | None = None
    ahead: int = 0
    adapter: str | None = None
    media: Sequence[Placement] = ()
    positions: Any = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The token of each row that a backend chose itself, and how likely it is: much less than all logits."""

    tokens: list[int | None]
    """None: it did not."""
    scores: list[float]
    """Of a likeliest token its logit; of a drawn one its log-probability (nats) at the temperature of drawing."""
    logits: Any = None
    """[n, vocab_size] where some are not chosen, which means nothing in the rows that are."""


class ModelBackend(Protocol):
    """One forward pass over a ragged batch, with keys and values in a pool of blocks."""

    vocab_size: int
    num_blocks: int
    block_size: int
    shares_prefixes: bool
    """Whether a block's content serves every sequence that begins alike. If not, prefix caching must be off."""
    can_rewind: bool
    """Whether a slice may begin before the end of what its sequence has computed, at no cost but its own tokens."""
    goes_ahead: bool
    """Whether slices may ask for tokens `ahead`."""
    takes_adapters: bool
    """Whether slices may name adapters; only then there are `add_adapter` and `remove_adapter`."""

    def execute(self, batch: Sequence[SequenceSlice]) -> Any:
        """Logits [sum of num_logits, vocab_size], slice by slice and token by token, in whatever form the `Sampler` takes.

        May be a `Chosen` when some slices that ask for logits are plain, and is a whole one, with 1 + `ahead` tokens a
        slice, when tokens ahead are asked for. Running the same slices again is harmless: an error may leave keys and values
        half written. An error that a smaller batch might not meet is a MemoryError, of a class called OutOfMemoryError
        (torch's on CUDA), or names the DefaultCPUAllocator (torch's on a CPU).
        """

    def seconds(self) -> Mapping[str, float]:
        """Time spent in the parts of `execute` so far, by name; empty when it does not look that closely."""

    def release(self, sequence_id: str) -> None:
        """A sequence gave its blocks up: it has ended, or will start over from position 0. Unknown ids are ignored."""

    def update_weights(self, state_dict: Mapping[str, Any]) -> None:
        """Replace the model's parameters; what the blocks hold is void afterwards."""

    def add_adapter(self, adapter_id: str, weights: Any) -> None:
        """Low-rank weights that slices may name from now on. Raises LifecycleError when they do not fit the model."""

    def remove_adapter(self, adapter_id: str) -> None:
        """Forget an adapter that no slice will name any more."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How to choose one token. The same `seed`, `position` and `tokens` give the same choice from the same logits, always."""

    sampling: SamplingParams
    seed: int
    position: int  # how many tokens were generated before
    tokens: Sequence[int] = ()  # prompt and answer so far, for penalties; the last `position` of them are the answer
    allowed: bytes | None = None  # a bit per token of the vocabulary, lowest first; None: all

    @property
    def plain(self) -> Plain | None:
        """How a backend may make this choice itself; None where more than a temperature decides on it."""
        if not self.sampling.is_plain:
            return None
        return LIKELIEST if self.sampling.is_greedy else Plain(self.sampling.temperature, self.seed, self.position)

    def after(self, more: Sequence[int]) -> Draw:
        """The same request's choice when `more` tokens have been generated; what is allowed then is not known here."""
        return Draw(self.sampling, self.seed, self.position + len(more), [*self.tokens, *more])


class Sampler(Protocol):
    """Chooses the next token of every sequence in one call."""

    def sample(self, logits: Any, draws: Sequence[Draw]) -> list[TokenLogprob | int]:
        """One token per row of logits: with log-probabilities where `sampling.logprobs` asks for them, else bare."""

    def score(
        self, logits: Any, known: Mapping[int, tuple[int, int]], drawn: Sequence[int]
    ) -> tuple[list[TokenLogprob], Any]:
        """How likely tokens are that are known already; and the logits of the `drawn` rows, to sample from.

        `known`: row to (token, how many of the likeliest to name beside it).
        """


@dataclass(frozen=True, slots=True)
class Opening:
    """A sequence whose next tokens may be guessed: how they will be chosen, and how many are wanted at most.

    `draw.tokens` is the sequence's live list: it grows from step to step, and never changes otherwise.
    """

    id: str
    draw: Draw
    most: int


class Drafter(Protocol):
    """Guesses what comes next. A wrong guess costs arithmetic and never changes an answer."""

    def propose(self, openings: Sequence[Opening]) -> list[Sequence[int]]:
        """For each opening at most `most` tokens, perhaps none."""

    def release(self, sequence_id: str) -> None:
        """Forget a sequence: it has ended, or gave its memory up. Unknown ids are ignored."""
