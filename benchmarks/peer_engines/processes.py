"""Processes of the comparison: bounded in time, their noise in a log file, ended by whoever started them."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from peer_engines.contender import OUTPUT, PROMPT, ROUNDS, Question, Unavailable
from serving.bench.client import Server, drive
from serving.bench.workload import Job

BUILD = Path(__file__).resolve().parents[2] / "build" / "peers"
"""Virtual environments, converted models and logs; not under version control."""
WORKERS = Path(__file__).resolve().parent / "workers"
ANSWER_SECONDS = 180.0
START_SECONDS = 400.0
WAKING_SECONDS = 0.3

Command = Sequence[str | Path]


def run(command: Command, *, log: Path, seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Standard output of a command; all it says goes to `log`. Raises Unavailable when it fails or takes too long."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        process = _popen(command, environment, stdout=subprocess.PIPE, stderr=file)
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{Path(command[0]).name} took longer than {seconds:.0f} s; see {log}") from None
        finally:
            end(process)
        file.write(output)
    if process.returncode:
        raise Unavailable(f"{Path(command[0]).name} ended with exit code {process.returncode}{last_words(log)}")
    return output.decode(errors="replace")


def make_environment(directory: Path, log: Path) -> Path:
    """A virtual environment, made if need be; returns its Python."""
    python = directory / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", directory], log=log, seconds=120)
    return python


class Worker:
    """A script that loads a model, says so in one line of JSON, and answers every line of JSON with another."""

    def __init__(self, command: Command, log: Path, environment: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._file = log, log.open("ab")
        self._process = _popen(
            command, environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._file, text=True
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self.ready = self._next(START_SECONDS)
        except BaseException:
            self.close()
            raise
        halt(self._process)

    def ask(self, question: Question) -> float:
        """Raises Unavailable when the worker is gone, too slow, or says that it failed."""
        with awake(self._process):
            try:
                self._process.stdin.write(json.dumps(question.fields()) + "\n")
                self._process.stdin.flush()
            except OSError:
                raise Unavailable(f"its worker is gone{last_words(self._log)}") from None
            return float(self._next(ANSWER_SECONDS)["tokens_per_s"])

    def close(self) -> None:
        end(self._process)
        self._file.close()

    def _listen(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise Unavailable(f"no answer within {seconds:.0f} s; see {self._log}") from None
        if not line:
            raise Unavailable(f"its worker ended{last_words(self._log)}")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(f"{answer['error']}; see {self._log}")
        return answer


class HttpServer:
    """An OpenAI-compatible server on a free port of this machine. `{port}` in the command is replaced.

    `fields`: what a request needs beyond the common body, so that an answer is as long as it should be and no prompt is
    remembered.
    """

    def __init__(
        self,
        command: Command,
        log: Path,
        fields: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self._file = log, log.open("ab")
        port = str(free_port())
        command = [str(part).replace("{port}", port) for part in command]
        self._process = _popen(command, environment, stdout=self._file, stderr=self._file)
        self._server = Server(f"http://127.0.0.1:{port}", fields=fields)
        try:
            self._wait_until_healthy()
            # Some servers want to be told the model's name; all of them say it.
            self._server = Server(self._server.url, model=self._server.check(), fields=fields)
            self.ask(Question("http", 2, 0))
        except BaseException:
            self.close()
            raise

    def ask(self, question: Question) -> float:
        """Output tokens per second, prefill included. Raises Unavailable when a request fails."""
        count = question.batch * ROUNDS
        jobs = [Job(1000 * question.number + index, 0.0, PROMPT, OUTPUT) for index in range(count)]
        with awake(self._process):
            exchanges = drive(self._server, jobs, max_concurrency=question.batch)
        errors = [exchange.error for exchange in exchanges if exchange.error]
        if errors:
            raise Unavailable(f"{len(errors)} of {count} requests failed, the first with {errors[0]}; see {self._log}")
        lengths = {(exchange.prompt_tokens, exchange.output_tokens) for exchange in exchanges}
        if lengths != {(PROMPT, OUTPUT)}:
            raise Unavailable(f"its answers are not {OUTPUT} tokens to prompts of {PROMPT}, but {sorted(lengths)}")
        first = min(exchange.sent for exchange in exchanges)
        last = max(exchange.ended for exchange in exchanges)
        return count * OUTPUT / (last - first)

    def close(self) -> None:
        end(self._process)
        self._file.close()

    def _wait_until_healthy(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise Unavailable(f"its server ended{last_words(self._log)}")
            try:
                with urllib.request.urlopen(f"{self._server.url}/health", timeout=2):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        raise Unavailable(f"its server was not healthy within {START_SECONDS:.0f} s; see {self._log}")


def halt(process: subprocess.Popen) -> None:
    """Let it and whatever it started stand still: engines that wait for work in a loop would take a core from the others."""
    _signal(process, signal.SIGSTOP)


@contextmanager
def awake(process: subprocess.Popen) -> Iterator[None]:
    """While it is asked something."""
    _signal(process, signal.SIGCONT)
    time.sleep(WAKING_SECONDS)
    try:
        yield
    finally:
        halt(process)


def _signal(process: subprocess.Popen, sign: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, sign)


def end(process: subprocess.Popen, patience: float = 15.0) -> None:
    """Ask it to stop, then stop it and whatever it started: it leads a process group of its own."""
    _signal(process, signal.SIGCONT)  # who stands still hears nothing
    if process.stdin is not None and process.poll() is None:
        with suppress(OSError):
            process.stdin.close()  # a worker ends when there are no more questions
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, sign)
        if _group_is_gone(process, patience / 3):
            break
    process.wait()
    _STARTED.discard(process)


def end_all() -> None:
    """Whatever is left when something went wrong, without patience."""
    for process in list(_STARTED):
        end(process, 0.0)


_STARTED: set[subprocess.Popen] = set()


def _group_is_gone(process: subprocess.Popen, patience: float) -> bool:
    until = time.monotonic() + patience
    while True:
        process.poll()  # or it stays in its group as a zombie
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)


def free_port() -> int:
    """Of this machine alone."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def last_words(log: Path) -> str:
    """The end of a log, for an error message."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f': "{lines[-1][:200]}"; see {log}' if lines else f"; see {log}"


def _popen(command: Command, environment: Mapping[str, str] | None, **pipes: Any) -> subprocess.Popen:
    try:
        process = subprocess.Popen(
            [str(part) for part in command], env={**os.environ, **(environment or {})}, start_new_session=True, **pipes
        )
    except OSError as error:
        raise Unavailable(f"{command[0]} cannot be started: {error.strerror}") from None
    _STARTED.add(process)
    return process
