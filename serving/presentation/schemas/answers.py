"""What the server answers, for the OpenAPI document: the answers themselves are written as they come."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "tool_calls"]


class Answer(BaseModel):
    """More fields may come with a later version."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class Error(Answer):
    message: str
    """What was wrong, and what to send."""
    type: str
    param: str | None
    """The field to blame, as in "messages[0].content"."""
    code: str | None


class ErrorAnswer(Answer):
    """Every answer that is not a success."""

    error: Error


class CachedTokens(Answer):
    cached_tokens: int


class CompletionDetails(Answer):
    reasoning_tokens: int


class Usage(Answer):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens
    completion_tokens_details: CompletionDetails


class CalledFunctionAnswer(Answer):
    name: str
    arguments: str
    """A JSON object, as a string."""


class ToolCallAnswer(Answer):
    id: str
    type: Literal["function"]
    function: CalledFunctionAnswer


class SpokenAnswer(Answer):
    id: str
    """By which an assistant's message of a later request may mean it."""
    data: str
    """base64."""
    expires_at: int
    transcript: str


class AnswerMessage(Answer):
    role: Literal["assistant"]
    content: str | None
    reasoning_content: str | None = None
    """What was thought before, where anything was."""
    tool_calls: list[ToolCallAnswer] = []
    audio: SpokenAnswer | None = None


class ChatChoice(Answer):
    index: int
    message: AnswerMessage
    logprobs: dict[str, Any] | None
    finish_reason: FinishReason


class Generated(Answer):
    id: str
    created: int
    """Unix seconds."""
    model: str
    system_fingerprint: str
    """The registry version that answered."""
    usage: Usage
    metadata: dict[str, str] | None = None


class ChatCompletion(Generated):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextChoice(Answer):
    index: int
    text: str
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length"]


class Completion(Generated):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class ResponseAnswer(Answer):
    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed", "cancelled"]
    model: str
    output: list[dict[str, Any]]
    previous_response_id: str | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
    usage: dict[str, Any] | None
    metadata: dict[str, str]


class Deleted(Answer):
    id: str
    object: str
    deleted: bool


class Unloaded(Deleted):
    all_finished: bool
    """Whether no request had to be ended for it."""


class Embedding(Answer):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Of length 1."""


class EmbeddingUsage(Answer):
    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class HeardSegment(Answer):
    id: int
    start: float
    """Seconds, as all times."""
    end: float
    text: str


class HeardWord(Answer):
    word: str
    start: float
    end: float


class HeardUsage(Answer):
    type: Literal["duration"]
    seconds: int


class Transcription(Answer):
    text: str
    usage: HeardUsage
    language: str | None = None
    duration: float | None = None
    segments: list[HeardSegment] | None = None
    words: list[HeardWord] | None = None


class Model(Answer):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    version: str
    aliases: list[str]
    lineage: list[str]
    """From this version back to its roots."""
    parent: str | None
    """Of an adapter: the model whose engine it answers through."""
    capabilities: list[Literal["audio", "image", "video"]]
    """What it sees beside text."""
    context_length: int


class ModelList(Answer):
    object: Literal["list"]
    data: list[Model]


class Tokens(Answer):
    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class RenderedChat(Tokens):
    model: str
    prompt: str


class PictureGrid(Answer):
    """Tokens of a picture, laid over a part of it."""

    rows: int
    columns: int
    patch_rows: int
    patch_columns: int
    """Patches of the same part, which the vision tower is given."""
    box: list[float]
    """That part: left, top, right, bottom, in widths and heights of the picture."""


class PictureLookedAt(Answer):
    part: int
    """Which one it is of all pictures and clips in the messages, from 0."""
    frame: int
    """Of a clip."""
    time: float
    """Of the frame, in seconds."""
    height: int
    width: int
    grids: list[PictureGrid]
    thumbnail: str | None
    """Of a frame: a data: address."""


class GlanceToken(Answer):
    id: int
    text: str
    share: float
    """Of this token's attention, how much fell on pictures."""
    weights: list[list[list[float]]]
    """[picture][grid][row by row]: parts of this token's whole attention, which is 1."""


class Attention(Answer):
    object: Literal["chat.attention"]
    model: str
    layers: int
    """That the language model has."""
    pictures: list[PictureLookedAt]
    tokens: list[GlanceToken]
    """Of the answer."""
    usage: dict[str, int]


class Text(Answer):
    prompt: str


class Health(Answer):
    status: str
    engines: list[str] | None = None
    """Models whose engine is dead or makes no progress."""


class EngineSnapshot(Answer):
    model: str
    version: str
    policy: str
    running: int
    waiting: int
    kv_usage: float
    """Share of the blocks in use."""
    kv_cached: float
    """Share of the blocks that nobody uses and that hold a prefix."""
    generated_tokens: int
    prompt_tokens: int
    uptime: float
    """Seconds."""


class Stats(Answer):
    models: list[EngineSnapshot]


class Examples(Answer):
    examples: list[str]
    needs_key: bool
    registry: bool
    """Whether there is a registry view."""
    voice: bool
    """Whether the server was started with something that hears and speaks."""
    feedback: bool
    """Whether feedback is kept."""


class ModelPolicy(Answer):
    model: str
    policy: str


class Policies(Answer):
    policies: list[str]
    models: list[ModelPolicy]


class UnfinishedRequest(Answer):
    model: str
    id: str
    tenant: str
    state: Literal["waiting", "running"]
    prompt_tokens: int
    generated_tokens: int
    max_tokens: int
    priority: int
    age: float
    """Seconds."""


class RequestList(Answer):
    object: Literal["list"]
    data: list[UnfinishedRequest]


class Aborted(Answer):
    aborted: list[str]
    """Requests in the engine: one for each choice of an answer."""


class Drained(Answer):
    status: Literal["draining"]
    unfinished: int


class FeedbackKept(Answer):
    id: str
    object: Literal["feedback"]
    created: int


class FeedbackAnswer(Answer):
    id: str
    object: Literal["feedback"]
    created: float
    """Unix seconds."""
    tenant: str
    kind: Literal["thumb", "comparison"]
    messages: list[dict[str, Any]]
    comment: str | None


class FeedbackList(Answer):
    object: Literal["list"]
    data: list[FeedbackAnswer]
    has_more: bool


class VersionSummary(Answer):
    ref: str
    parents: list[str]
    aliases: list[str]
    problem: str | None = None
    """What is wrong with a damaged one, of which nothing else is told."""


class ServedAs(Answer):
    model: str
    version: str
    aliases: list[str]


class Registry(Answer):
    versions: list[VersionSummary]
    aliases: dict[str, str]
    moves: list[dict[str, Any]]
    """Of aliases, the newest first."""
    served: list[ServedAs]
    behind: list[dict[str, str]]
    """Aliases that mean another version in the registry than to this server."""


class Version(Answer):
    ref: str
    stage: str
    created: str
    parents: list[str]
    config: dict[str, Any]
    metrics: dict[str, Any]
    files: dict[str, int]
    """Bytes."""
    card: str
    report: dict[str, Any] | None
    """The report card, if this server has made one."""


class Difference(Answer):
    a: str
    b: str
    sections: dict[str, list[list[Any]]]
    """Of each, only what differs: [key, in a, in b]."""


class Job(Answer):
    kind: str
    ref: str
    state: Literal["idle", "running", "done", "refused", "failed"]
    lines: list[str]
