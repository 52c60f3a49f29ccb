"""A deterministic engine that says what it is told, for answers that no random model gives (tool calls, failures)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from serving.application.ports import EngineStats, RunningRequest, ServedModel
from serving.domain.errors import Draining, InvalidRequest, ModelNotFound, QueueFull
from serving.domain.events import Event, Finished, TokenLogprob, TokensGenerated
from serving.domain.media import Media
from serving.domain.request import Prompt, Request
from serving.infrastructure.tool_call_forms import COMPACT

SPECIAL = {256: "<tool_call>", 257: "</tool_call>"}


class ByteDetokenizer:
    """Bytes to text, whole characters only; special tokens vanish, as with `skip_special_tokens`."""

    def __init__(self) -> None:
        self._held = b""

    def push(self, tokens: Sequence[int]) -> str:
        self._held += bytes(token for token in tokens if token < 256)
        text = self._held.decode("utf-8", "ignore")
        self._held = self._held[len(text.encode()) :]
        return text

    def flush(self) -> str:
        held, self._held = self._held, b""
        return held.decode("utf-8", "replace")


class ByteTokenizer:
    """One token per byte. With `special_markers` the tool markers are single tokens that `decode` drops."""

    def __init__(self, special_markers: bool = False, context_length: int = 4096) -> None:
        self.context_length = context_length
        self.vocab_size = 259
        self.stop_token_ids = frozenset({258})
        self.tool_call_form = COMPACT
        self.clips_as_pictures = False
        self._special = SPECIAL if special_markers else {}

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        while text:
            for token, marker in self._special.items():
                if text.startswith(marker):
                    tokens.append(token)
                    text = text[len(marker) :]
                    break
            else:
                tokens += text[0].encode()
                text = text[1:]
        return tokens

    def render_text(self, messages, tools=None, *, add_generation_prompt, continue_final_message, variables) -> str:
        if any(message["content"] == "break the template" for message in messages):
            raise InvalidRequest("the template refuses", param="messages")
        text = "".join(f"{message['role']}: {message['content']}\n" for message in messages)
        opening = "assistant: " if add_generation_prompt and variables.get("opening") else ""
        return text[:-1] if continue_final_message else text + opening

    def encode_rendered(self, text: str) -> list[int]:
        return self.encode(text)

    def place(self, text: str, media: Sequence[Media]) -> Prompt:
        return Prompt(tuple(self.encode(text)))

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(token for token in tokens if token < 256).decode("utf-8", "replace")

    def detokenizer(self) -> ByteDetokenizer:
        return ByteDetokenizer()


class ScriptedStream:
    """Events in chunks of the given sizes, then the terminal one; a cancelled stream ends at once."""

    def __init__(self, engine: ScriptedEngine, request: Request, chunks: list[tuple[int, ...]], end: Finished) -> None:
        self._engine = engine
        self._request = request
        self._chunks = chunks
        self._end: Finished | None = end
        self._cancelled = threading.Event()

    def next(self, timeout: float) -> list[Event]:
        if self._end is None:
            return []
        if self._cancelled.is_set():
            return self._finish(Finished(self._request.id, "cancelled", len(self._request.prompt_tokens), 0))
        if not self._chunks:
            if self._engine.hang and not self._cancelled.wait(timeout):
                return []
            return self._finish(self._end)
        tokens = self._chunks.pop(0)
        wanted = self._request.sampling.logprobs
        logprobs = tuple(TokenLogprob(token, -0.5, ((token, -0.5), (65, -1.5))[:wanted]) for token in tokens)
        return [TokensGenerated(self._request.id, tokens, logprobs if wanted is not None else ())]

    def cancel(self) -> None:
        if self._end is not None and not self._cancelled.is_set():
            self._cancelled.set()
            self._engine.cancelled.append(self._request.id)

    def _finish(self, end: Finished) -> list[Event]:
        self._end = None
        return [end]


class ScriptedEngine:
    """Answers every request with `script(request)`, cut into chunks of `sizes` tokens (repeated)."""

    def __init__(
        self, tokenizer: ByteTokenizer, script: Callable[[Request], str] | str, sizes: Sequence[int] = (1,)
    ) -> None:
        self.tokenizer = tokenizer
        self.script = script if callable(script) else lambda request: script
        self.sizes = list(sizes)
        self.hang = False
        self.error: str | None = None
        self.alive = True
        self.refuse_after: int | None = None
        self.requests: list[Request] = []
        self.cancelled: list[str] = []
        self.draining = False

    def submit(self, request: Request) -> ScriptedStream:
        if self.draining:
            raise Draining("shutting down")
        if self.refuse_after is not None and len(self.requests) >= self.refuse_after:
            raise QueueFull("the queue is full", retry_after=2.5)
        self.requests.append(request)
        tokens = self.tokenizer.encode(self.script(request))
        limit = request.sampling.max_tokens
        reason = "error" if self.error else "length" if len(tokens) > limit else "stop"
        tokens = tokens[:limit]
        chunks, at, turn = [], 0, 0
        while at < len(tokens):
            size = self.sizes[turn % len(self.sizes)]
            chunks.append(tuple(tokens[at : at + size]))
            at, turn = at + size, turn + 1
        end = Finished(request.id, reason, len(request.prompt_tokens), len(tokens), cached_tokens=3, error=self.error)
        return ScriptedStream(self, request, chunks, end)

    def cancel(self, request_id: str, why: str | None = None) -> None:
        raise NotImplementedError

    def unfinished(self) -> list[RunningRequest]:
        return []

    def stats(self) -> EngineStats:
        return EngineStats("scripted", 0, 0, 64, 0, 256, 16, 0, 0, 0, 0, 0, {}, 0.0, 1.0)

    def healthy(self) -> bool:
        return self.alive

    def drain(self, timeout: float) -> bool:
        self.draining = True
        return True

    def close(self) -> None:
        self.draining = True


class Catalog:
    """Models by name."""

    def __init__(self, *models: ServedModel) -> None:
        self._models = {model.name: model for model in models}

    def get(self, name: str) -> ServedModel:
        for model in self._models.values():
            if name in (model.name, model.version, *model.aliases):
                return model
        raise ModelNotFound(f'no model "{name}": this server has {", ".join(self._models)}', param="model")

    def version_of(self, name: str) -> str:
        return self.get(name).version

    def all(self) -> list[ServedModel]:
        return list(self._models.values())

    def engines(self) -> list[ServedModel]:
        return self.all()

    def retiring(self) -> list[ServedModel]:
        return []


def scripted_model(
    script: Callable[[Request], str] | str, sizes: Sequence[int] = (1,), *, special_markers: bool = False
) -> ServedModel:
    """A served model around a scripted engine."""
    tokenizer = ByteTokenizer(special_markers)
    engine = ScriptedEngine(tokenizer, script, sizes)
    return ServedModel("parrot", "parrot/1", ("production",), 1700000000, engine, tokenizer, {}, ("parrot/1",))


def chunked(text: str, cuts: Sequence[int]) -> list[str]:
    """`text` cut at arbitrary places."""
    bounds = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
