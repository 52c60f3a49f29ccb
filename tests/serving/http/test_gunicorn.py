"""`lifecycle serve` as people run it: clients that leave, SIGTERM, ports in use."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

HELLO = [{"role": "user", "content": "the quick fox"}]
LONG = {"messages": HELLO, "max_tokens": 12_000, "min_tokens": 12_000}
BIN = Path(sys.executable).with_name("lifecycle")


def serve(registry, *arguments: str, **options) -> subprocess.Popen:
    environment = {
        **os.environ,
        "LIFECYCLE_REGISTRY": str(registry.root),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.Popen(
        [BIN, "serve", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


class Running:
    """A server process that has printed its ready line."""

    def __init__(self, registry, *arguments: str) -> None:
        self.process = serve(registry, "--port", "0", "--dtype", "float32", "--kv-memory", "16", *arguments)
        self.ready_line = self.process.stdout.readline()
        if "http://127.0.0.1:" not in self.ready_line:
            raise AssertionError(self.ready_line + self.process.communicate(timeout=10)[1])
        self.port = int(self.ready_line.split("http://127.0.0.1:")[1].split()[0])

    def post(self, body, timeout: float = 30) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse | None]:
        """Send a chat request; for a stream also read the head of the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
        return connection, connection.getresponse() if body.get("stream") else None

    def stats(self) -> dict:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request("GET", "/stats")
            return json.load(connection.getresponse())["models"][0]

    def wait_for(self, seconds: float = 10, **expected) -> None:
        """Poll until the engine's numbers are as expected; the deadline is generous except where it is the point."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            stats = self.stats()
            if all(stats[name] == value for name, value in expected.items()):
                return
        raise AssertionError(f"after {seconds} s: {stats}, expected {expected}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def running(registry):
    server = Running(registry, "--max-num-seqs", "2")
    yield server
    if server.process.poll() is None:
        server.stop(signal.SIGINT)
    server.process.communicate()


def test_the_ready_line_names_the_default_and_where_it_is(running):
    assert running.ready_line.startswith("Serving tiny/1 at http://127.0.0.1:")


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_the_engine_within_a_second(running, stream):
    connection, response = running.post({**LONG, "stream": stream})
    running.wait_for(running=1)
    if response is not None:
        response.close()
    connection.close()
    running.wait_for(seconds=1, running=0, waiting=0)


def test_a_client_that_leaves_the_queue_frees_its_place_within_a_second(running):
    first, second = running.post(LONG), running.post(LONG)
    running.wait_for(running=2)
    for stream in (True, False):
        queued, response = running.post({**LONG, "stream": stream})
        running.wait_for(running=2, waiting=1)
        if response is not None:
            assert b"assistant" in response.readline(), "the stream begins while the request still waits"
            response.close()
        queued.close()
        running.wait_for(seconds=1, running=2, waiting=0)
    for connection, _ in (first, second):
        connection.close()
    running.wait_for(seconds=1, running=0)


def test_all_choices_of_a_client_that_leaves_are_given_up(running):
    connection, response = running.post({**LONG, "n": 3, "stream": True})
    running.wait_for(running=2, waiting=1)
    response.close()
    connection.close()
    running.wait_for(seconds=1, running=0, waiting=0)


def test_a_connection_reset_in_the_middle_frees_the_engine(running):
    connection, response = running.post({**LONG, "stream": True})
    response.readline()
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # RST instead of FIN
    response.close()
    connection.close()
    running.wait_for(seconds=1, running=0)


def test_bad_bytes_are_answered_by_the_server_below_too(running):
    for raw in (b"GET\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
        with closing(socket.create_connection(("127.0.0.1", running.port), timeout=10)) as raw_socket:
            raw_socket.sendall(raw)
            assert raw_socket.recv(100).startswith(b"HTTP/1.1 4")


def test_chunked_bodies_are_read(running):
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)
    body = json.dumps({"messages": HELLO, "max_tokens": 2}).encode()
    connection.request(
        "POST",
        "/v1/chat/completions",
        iter([body[:10], body[10:]]),
        {"Content-Type": "application/json"},
        encode_chunked=True,
    )
    assert connection.getresponse().status == 200
    connection.close()


def test_a_port_in_use_is_one_clear_line(registry, running):
    process = serve(registry, "production", "--port", str(running.port))
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert output == ""
    (line,) = errors.splitlines()
    assert f"port {running.port}" in line and f"--port {running.port + 1}" in line


def test_sigterm_finishes_the_stream_in_flight_and_refuses_new_ones(registry, running):
    idle = http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)
    idle.request("GET", "/health")
    idle.getresponse().read()
    connection, response = running.post(
        {**LONG, "max_tokens": 1500, "min_tokens": 1500, "stream": True, "stream_options": {"include_usage": True}}
    )
    assert b"assistant" in response.readline()
    reader: list[bytes] = []
    thread = threading.Thread(target=lambda: reader.append(response.read()))
    running.process.send_signal(signal.SIGTERM)
    thread.start()
    refused = False
    while thread.is_alive() and not refused:
        try:
            socket.create_connection(("127.0.0.1", running.port), timeout=5).close()
        except ConnectionRefusedError:
            refused = True
        except ConnectionResetError:  # came in while the port was being closed
            pass
    assert refused, "new connections are refused while the stream still runs"
    idle.request("POST", "/v1/chat/completions", json.dumps({"messages": HELLO}), {"Content-Type": "application/json"})
    answer = idle.getresponse()
    assert (answer.status, json.load(answer)["error"]["code"]) == (503, "draining"), "kept-alive connections are told"
    thread.join(timeout=30)
    assert b'"finish_reason":"length"' in reader[0]
    assert b'"completion_tokens":1500' in reader[0]
    assert reader[0].endswith(b"data: [DONE]\n\n")
    connection.close()
    assert running.process.wait(timeout=20) == 0
    errors = running.process.stderr.read()
    assert "Traceback" not in errors and "[ERROR]" not in errors, errors
