"""Load for a running server: streams completions over HTTP and takes the time of every piece that arrives.

A piece may hold several tokens, as servers join what is ready at once; and a token that is half a character arrives with
its other half. So ITL is the gap between pieces, as in vLLM's benchmark; TPOT uses the server's own count of tokens.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import Any
from urllib.parse import urlsplit

from lifecycle.errors import LifecycleError
from serving.bench.metrics import Latencies
from serving.bench.workload import Job

TIMEOUT = 600.0  # seconds without a byte
MAX_CONNECTIONS = 512  # without --max-concurrency: what the server has threads for


@dataclass(slots=True)
class Exchange:
    """One request and what came back; times are `time.perf_counter`."""

    sent: float = 0.0
    pieces: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    ended: float = 0.0
    """The end mark; an answer of special tokens alone has no pieces."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send requests. `url` without a path, "http://127.0.0.1:8000"; `model` None: the server's first one.

    `fields`: what this server wants in a request beside the common ones, or in their place.
    """

    url: str
    api_key: str | None = None
    model: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)

    def connect(self) -> HTTPConnection:
        """Raises LifecycleError for a URL that is none."""
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LifecycleError(f'"{self.url}" is no address of a server: write --base-url http://127.0.0.1:8000')
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        return kind(parts.hostname, parts.port, timeout=TIMEOUT)

    def check(self) -> str:
        """The name of the model that will answer. Raises LifecycleError when nobody does."""
        connection = self.connect()
        try:
            connection.request("GET", "/v1/models", headers=self.headers())
            response = connection.getresponse()
            body = json.loads(response.read())
            if response.status != 200:
                raise LifecycleError(f"{self.url} refuses: {body['error']['message']}")
            names = [model["id"] for model in body["data"]]
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            raise LifecycleError(
                f"no server answers at {self.url} ({error}): start one with lifecycle serve, or name it with --base-url"
            ) from None
        finally:
            connection.close()
        return self.model or names[0]

    def headers(self) -> dict[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}


def drive(
    server: Server,
    jobs: Iterable[Job],
    *,
    max_concurrency: int | None = None,
    progress: Callable[[Exchange], None] | None = None,
) -> list[Exchange]:
    """Send every job when it is due, at most `max_concurrency` at a time, and wait for all answers.

    A job that has to wait for a place counts from when it is sent, as in vLLM's benchmark.
    """
    done: list[Exchange] = []
    lock = threading.Lock()
    places = max_concurrency or MAX_CONNECTIONS
    due: queue.SimpleQueue[tuple[str, float] | None] = queue.SimpleQueue()
    workers = [threading.Thread(target=_work, args=(server, due, done, lock, progress)) for _ in range(places)]
    # Prompts are made beforehand: the clock should see the server at work, not the client.
    bodies = [(_body(server, job), job.arrival) for job in jobs]
    started = time.perf_counter() + 0.05
    for worker in workers[: len(bodies)]:
        worker.start()
    for body, arrival in bodies:
        due.put((body, started + arrival))
    for _ in workers:
        due.put(None)
    for worker in workers[: len(bodies)]:
        worker.join()
    return done


def latencies(exchanges: Iterable[Exchange], slo: dict[str, float] | None = None) -> Latencies:
    """Statistics of the exchanges that worked."""
    found = Latencies(slo or {})
    for exchange in exchanges:
        if exchange.error or not exchange.pieces:
            continue
        for before, after in zip(exchange.pieces, exchange.pieces[1:], strict=False):
            found.itl.add(after - before)
        found.finished(
            arrival=exchange.sent,
            first_token=exchange.pieces[0],
            last_token=exchange.pieces[-1],
            prompt_tokens=exchange.prompt_tokens,
            output_tokens=exchange.output_tokens,
        )
    return found


def _body(server: Server, job: Job) -> str:
    """Token ids in, exactly `output_tokens` out: no token ends an answer."""
    body = {
        "prompt": list(job.tokens()),
        "max_tokens": job.output_tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps({**body, **({"model": server.model} if server.model else {}), **server.fields})


def _work(
    server: Server,
    due: queue.SimpleQueue[tuple[str, float] | None],
    done: list[Exchange],
    lock: threading.Lock,
    progress: Callable[[Exchange], None] | None,
) -> None:
    connection = server.connect()
    while (item := due.get()) is not None:
        body, when = item
        time.sleep(max(0.0, when - time.perf_counter()))
        exchange = _exchange(connection, server, body)
        with lock:
            done.append(exchange)
            if progress is not None:
                progress(exchange)
    connection.close()


def _exchange(connection: HTTPConnection, server: Server, body: str) -> Exchange:
    exchange = Exchange(sent=time.perf_counter())
    try:
        response = _post(connection, server, body)
        if response.status != 200:
            exchange.error = json.loads(response.read())["error"]["message"]
        else:
            _follow(response, exchange)
            response.read()  # what ends the chunked body, so that the connection can be used again
    except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
        connection.close()
        exchange.error = repr(error)
    return exchange


def _post(connection: HTTPConnection, server: Server, body: str) -> HTTPResponse:
    """A server may close a connection between two requests; then the request goes out again, on a new one."""
    try:
        connection.request("POST", "/v1/completions", body, server.headers())
        return connection.getresponse()
    except (RemoteDisconnected, ConnectionResetError, BrokenPipeError):
        connection.close()
        connection.request("POST", "/v1/completions", body, server.headers())
        return connection.getresponse()


def _follow(response: HTTPResponse, exchange: Exchange) -> None:
    """Read server-sent events up to the end mark."""
    while line := response.readline():
        if not line.startswith(b"data: "):
            continue
        now = time.perf_counter()
        if line.strip() == b"data: [DONE]":
            exchange.ended = now
            return
        chunk = json.loads(line[len(b"data: ") :])
        if "error" in chunk:
            exchange.error = chunk["error"]["message"]
        elif usage := chunk.get("usage"):
            exchange.prompt_tokens, exchange.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        elif any(choice.get("text") for choice in chunk["choices"]) or not exchange.pieces and _finished(chunk):
            exchange.pieces.append(now)


def _finished(chunk: dict[str, Any]) -> bool:
    """An answer of special tokens alone has no text, but an end."""
    return any(choice.get("finish_reason") for choice in chunk["choices"])
