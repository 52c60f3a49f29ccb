"""Our own engine, and `lifecycle serve` for the clients.

Decode and prefill: `EngineLoop` in a process of its own, without HTTP. `engine.pause` lets all requests be there before the
first step; the default policy then computes prompts, at most 2048 tokens in a step, and at most 128 beside decodes.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

from peer_engines.contender import Phase, Question
from peer_engines.processes import BUILD, WORKERS, HttpServer, Worker

DTYPES = {"bf16": "bfloat16", "f32": "float32"}
"""What a precision is called in --dtype of `lifecycle serve`; any other goes by its own name."""
FIELDS: dict[str, object] = {}
"""The client's common body says it all."""


@dataclass
class Ours:
    backend: str = "auto"
    precision: str = "bf16"
    id: str = "ours"
    phases: tuple[Phase, ...] = ("decode", "prefill", "http")

    def prepare(self) -> None:
        """It is what this benchmark runs in."""

    def versions(self) -> dict[str, str]:
        return {name: version(name) for name in ("torch", "transformers")}

    def convert(self, checkpoint: Path) -> Path:
        return checkpoint

    def start(self, model: Path, logs: Path) -> OurSession:
        return OurSession(model, self.backend, DTYPES.get(self.precision, self.precision), logs)


@dataclass
class OurSession:
    model: Path
    backend: str
    dtype: str
    logs: Path
    name: str = "ours"
    _server: HttpServer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        command = [sys.executable, WORKERS / "ours_worker.py", self.model, self.backend, self.dtype]
        self._worker = Worker(command, self.logs / "ours-engine.log", ENVIRONMENT)
        self.name = f"ours ({self._worker.ready['backend']})"

    def measure(self, question: Question) -> float:
        return (self.server if question.phase == "http" else self._worker).ask(question)

    @cached_property
    def server(self) -> HttpServer:
        """Started when the first client comes. It serves from a registry of its own, as no directory can be served."""
        from lifecycle.registry import ModelRegistry

        registry = BUILD / "registry"
        name = f"peers-{self.model.name}"
        ref = ModelRegistry(registry).import_directory(self.model, name).ref
        command = [sys.executable, "-m", "lifecycle.cli", "serve", ref, "--port", "{port}", "--kv-memory", "1024"]
        command += ["--backend", self.backend, "--dtype", self.dtype, "--set", "prefix_caching=false"]
        environment = {**ENVIRONMENT, "LIFECYCLE_REGISTRY": str(registry)}
        self._server = HttpServer(command, self.logs / "ours-server.log", FIELDS, environment)
        return self._server

    def close(self) -> None:
        self._worker.close()
        if self._server is not None:
            self._server.close()


ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
}
