"""What the routes of one server share: its models, its settings, its metrics, whether it is closing."""

from __future__ import annotations

import hashlib
import hmac
import threading
from dataclasses import dataclass, field
from pathlib import Path

from flask import Request

from serving.application.ports import ModelCatalog, ServedModel
from serving.domain.errors import Draining, Unauthorized
from serving.presentation.metrics import Metrics

EXAMPLES = (
    "What is the capital of France?",
    "Tell me a short story about a fox and a lighthouse.",
    "What is 17 + 25?",
    "Explain to a child why the sky is blue.",
)


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """Settings of the HTTP side."""

    api_key: str | None = None
    """Clients must send it as `Authorization: Bearer KEY`; None: everybody is welcome."""
    max_body_bytes: int = 4 * 2**20
    """Larger requests get 413."""
    tick_seconds: float = 0.25
    """How often a waiting request looks whether its client is still there."""
    ping_seconds: float = 5.0
    """A stream that has been silent for so long sends a comment, so that proxies keep it open."""
    drain_seconds: float = 60.0
    """After SIGTERM, answers in flight have so long to finish."""
    examples: tuple[str, ...] = EXAMPLES
    """Prompts that the chat page offers."""
    registry: Path | None = None
    """The registry that the page's registry view shows; None: there is no such view."""


@dataclass(slots=True)
class ServerState:
    """One per app; safe from any thread."""

    catalog: ModelCatalog
    config: HttpConfig
    metrics: Metrics = field(default_factory=Metrics)
    draining: threading.Event = field(default_factory=threading.Event)

    def model(self, name: str | None) -> ServedModel:
        """The model a request names, or the first one. Raises `ModelNotFound`, and `Draining` while closing."""
        if self.draining.is_set():
            raise Draining("the server is shutting down: send the request to another one, or later")
        return self.catalog.all()[0] if name is None else self.catalog.get(name)

    def tenant(self, request: Request) -> str:
        """Who is asking, from the key alone. Raises `Unauthorized`."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        # WSGI hands the bytes of a header over as Latin-1.
        sent = key.strip().encode("latin-1", "replace") if scheme.lower() == "bearer" else b""
        if self.config.api_key is not None and not hmac.compare_digest(sent, self.config.api_key.encode()):
            wrong = "wrong API key" if sent else "no API key"
            raise Unauthorized(f"{wrong}: send the header Authorization: Bearer KEY")
        return hashlib.sha256(sent).hexdigest()[:16] if sent else "default"

    def drain(self) -> bool:
        """Refuse new requests, give the running ones their time; True when all of them finished."""
        self.draining.set()
        finished: list[bool] = []
        engines = [model.engine for model in self.catalog.all()]
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
        for model in self.catalog.all():
            model.engine.close()
