"""OpenVINO GenAI's `ContinuousBatchingPipeline`, from its package. It reads GGUF in float16 and has no HTTP server.

Decode and prefill: the script calls `add_request` for all prompts and then `step` until all are done, in one process. Its
plugin computes in what it finds best for the processor, which is bfloat16 where the hardware multiplies it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from peer_engines.checkpoint import as_gguf
from peer_engines.contender import KV_GIB, Phase, Question, cores
from peer_engines.processes import BUILD, WORKERS, Worker, make_environment, run

PACKAGE = "openvino-genai"
VOCABULARY = 8192
"""Prompts are made of these ids, which every shape has."""


@dataclass
class OpenVino:
    id: str = "openvino"
    precision: str = "f16"
    phases: tuple[Phase, ...] = ("decode", "prefill")

    def __post_init__(self) -> None:
        self._home = BUILD / self.id
        self._log = BUILD / "logs" / "prepare-openvino.log"

    def prepare(self) -> None:
        python = make_environment(self._home, self._log)
        done = self._home / "prepared"
        if not done.exists():
            run([python, "-m", "pip", "install", PACKAGE], log=self._log, seconds=900)
            done.touch()

    def versions(self) -> dict[str, str]:
        listed = run([self._home / "bin/python", "-m", "pip", "list", "--format", "json"], log=self._log, seconds=60)
        return {item["name"]: item["version"] for item in json.loads(listed) if item["name"] == PACKAGE}

    def convert(self, checkpoint: Path) -> Path:
        return as_gguf(checkpoint, BUILD / "models" / f"{checkpoint.name}-f16.gguf", "f16")

    def start(self, model: Path, logs: Path) -> OpenVinoSession:
        return OpenVinoSession(self._home / "bin/python", model, logs)


class OpenVinoSession:
    name = "OpenVINO GenAI"

    def __init__(self, python: Path, model: Path, logs: Path) -> None:
        command = [python, WORKERS / "openvino_worker.py", model, str(VOCABULARY), str(len(cores())), str(KV_GIB)]
        self._worker = Worker(command, logs / "openvino.log")

    def measure(self, question: Question) -> float:
        return self._worker.ask(question)

    def close(self) -> None:
        self._worker.close()
