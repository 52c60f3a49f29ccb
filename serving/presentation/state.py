"""What the routes of one server share: its models, its settings, its metrics, whether it is closing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flask import Request, g, request

from serving.application.access import Caller, Keys, anonymous_tenant, find_caller
from serving.application.canary import Canary, tells_against
from serving.application.generation import Generation
from serving.application.media import OpenMedia
from serving.application.ports import ModelCatalog, ServedModel
from serving.application.quota import Limiter
from serving.application.spoken_answers import SpokenAnswers
from serving.application.voice import Voice
from serving.domain.canary import Outcome
from serving.domain.errors import Draining, Forbidden, ServingError, Unauthorized
from serving.presentation.metrics import Meter, Metrics
from serving.presentation.tenant_metrics import TenantMetrics
from serving.presentation.voice_metrics import VoiceMetrics

EXAMPLES = (
    "What is the capital of France?",
    "Tell me a short story about a fox and a lighthouse.",
    "What is 17 + 25?",
    "Explain to a child why the sky is blue.",
)
LARGE_BODIES = 8
KEY_PROTOCOL = "openai-insecure-api-key."
SESSION_HEADER = "X-Session-Id"
"""Requests with the same one are answered by the same version while another is on trial."""
ANONYMOUS = anonymous_tenant(b"")


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Settings of the HTTP side."""

    api_key: str | None = None
    """Clients must send it as `Authorization: Bearer KEY`. It opens everything; without any key so does none."""
    cors_origins: tuple[str, ...] = ()
    """Pages of these origins ("https://example.org") may use the API from a browser."""
    max_body_bytes: int = 4 * 2**20
    """Larger requests get 413."""
    media_body_bytes: int = 24 * 2**20
    """So much larger may be those that can show pictures, where the server decodes any."""
    tick_seconds: float = 0.25
    """How often a waiting request looks whether its client is still there."""
    ping_seconds: float = 5.0
    """A stream that has been silent for so long sends a comment, so that proxies keep it open."""
    drain_seconds: float = 60.0
    """After SIGTERM, answers in flight have so long to finish."""
    realtime_sessions: int = 8
    """Most live conversations at the same time."""
    realtime_idle_seconds: float = 120.0
    """One in which nothing is sent, said or answered for so long is closed."""
    realtime_seconds: float = 3600.0
    """The longest that one may take."""
    examples: tuple[str, ...] = EXAMPLES
    """Prompts that the chat page offers."""
    registry: str | Path | None = None
    """The registry that the page's registry view shows, a directory or an address; None: there is no such view."""


@dataclass(slots=True)
class ServerState:
    """One per app; safe from any thread."""

    catalog: ModelCatalog
    config: HttpConfig
    keys: tuple[Keys, ...] = ()
    media: OpenMedia | None = None
    """Who decodes pictures and clips; None: nobody."""
    voice: Voice | None = None
    """Who hears and speaks; None: nobody."""
    large_bodies: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(LARGE_BODIES))
    """A place for each request with pictures that is being read."""
    canary: Canary | None = None
    """Trials of another version beside the one in place; None: there are none."""
    metrics: Metrics = field(default_factory=Metrics)
    spoken: SpokenAnswers = field(default_factory=SpokenAnswers)
    voice_metrics: VoiceMetrics = field(default_factory=VoiceMetrics)
    tenants: TenantMetrics = field(default_factory=TenantMetrics)
    limiter: Limiter = field(default_factory=Limiter)
    draining: threading.Event = field(default_factory=threading.Event)

    def model(self, name: str | None) -> ServedModel:
        """The model a request names, or the first one. Raises `ModelNotFound`, and `Draining` while closing."""
        if self.draining.is_set():
            raise Draining("the server is shutting down: send the request to another one, or later")
        return self.catalog.all()[0] if name is None else self.catalog.get(name)

    def start(self, begin: Callable[[ServedModel], Generation], name: str | None) -> Generation:
        """Begin a generation with the model that a request names; what `begin` raises passes through.

        A model may be swapped for another between being found and being asked, and then refuses: the other one is asked.
        """
        while True:
            model = self.model(name)
            try:
                generation = self._begin(begin, model, name)
            except Draining:
                if self.model(name) is model:
                    raise
                continue
            g.answering, g.generation = generation.model.version, generation
            return generation

    def _begin(self, begin: Callable[[ServedModel], Generation], model: ServedModel, name: str | None) -> Generation:
        """With the model, or the one on trial beside it; whom that one fails to take is answered all the same."""
        if self.canary is None or self.canary.trial is None:
            return begin(model)
        key = self._key()
        routed = self.canary.route(model, name, key)
        if routed is not model:
            try:
                return begin(routed)
            except ServingError as error:
                if tells_against(error):
                    self.canary.observe(routed.version, Outcome(failed=True))
        generation = begin(model)
        g.shadow = self.canary.shadow(generation, begin, name, key)
        return generation

    def _key(self) -> str:
        """Who stays with one version: a session, else a tenant; a client without either is somebody else every time."""
        tenant = self.tenant(request)
        if session := request.headers.get(SESSION_HEADER):
            return f"{tenant}/{session}"
        return uuid.uuid4().hex if tenant == ANONYMOUS else tenant

    @property
    def needs_key(self) -> bool:
        """Whether anybody is asked for a key. Without keys everybody may do everything."""
        return bool(self.keys)

    def caller(self, request: Request) -> Caller:
        """Who is asking; the guard has found out, except on open routes. Raises `Unauthorized`."""
        return g.caller if "caller" in g else self.identify(request)

    def identify(self, request: Request) -> Caller:
        """Who is asking, from the key alone. Raises `Unauthorized`."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if not scheme:
            scheme, key = "bearer", key_of_socket(request.headers.get("Sec-WebSocket-Protocol", ""))
        # WSGI hands the bytes of a header over as Latin-1.
        sent = key.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
        if not self.keys:
            return Caller(anonymous_tenant(sent), admin=True)
        caller = find_caller(self.keys, sent)
        if caller is None:
            wrong = "wrong API key" if sent else "no API key"
            raise Unauthorized(f"{wrong}: send the header Authorization: Bearer KEY")
        return caller

    def tenant(self, request: Request) -> str:
        """Whose requests, prefixes and feedback these are. Raises `Unauthorized`."""
        return self.caller(request).tenant

    def is_admin(self, request: Request) -> bool:
        """Whether the one who asks may run the server; says no instead of refusing."""
        try:
            return self.caller(request).admin
        except Unauthorized:
            return False

    def admin(self, request: Request) -> Caller:
        """Who is asking, if they may run the server. Raises `Unauthorized` and `Forbidden`."""
        caller = self.caller(request)
        if not caller.admin:
            raise Forbidden("this needs the key of an admin: lifecycle keys create --tenant NAME --admin makes one")
        return caller

    def meter(self, generation: Generation) -> Meter:
        """Times a generation, and charges its tokens to the request that is being handled."""
        self.charge(lambda: generation.usage.total_tokens)
        return Meter(self.metrics, generation, self.canary, g.pop("shadow", None))

    def charge(self, tokens: Callable[[], int]) -> None:
        """What the request that is being handled will have cost at its end."""
        if (lease := g.get("lease")) is not None:
            lease.charge(tokens)

    def refuse(self) -> None:
        """Take no new request from now on, in no engine; what runs goes on."""
        self.draining.set()
        for model in self.catalog.engines():
            model.engine.drain(0)

    def drain(self) -> bool:
        """Refuse new requests, give the running ones their time; True when all of them finished."""
        self.draining.set()
        finished: list[bool] = []
        engines = [model.engine for model in (*self.catalog.engines(), *self.catalog.retiring())]
        threads = [
            threading.Thread(target=lambda engine=engine: finished.append(engine.drain(self.config.drain_seconds)))
            for engine in engines
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return len(finished) == len(engines) and all(finished)

    def close(self) -> None:
        """Stop the engines; streams that still run end with an error event."""
        self.draining.set()
        for model in (*self.catalog.engines(), *self.catalog.retiring()):
            model.engine.close()


def key_of_socket(protocols: str) -> str:
    """Pages cannot send headers with a WebSocket, so their key comes as one of the protocols that they name."""
    names = (name.strip() for name in protocols.split(","))
    return next((name.removeprefix(KEY_PROTOCOL) for name in names if name.startswith(KEY_PROTOCOL)), "")
