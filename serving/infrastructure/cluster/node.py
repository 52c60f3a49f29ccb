"""The Ray cluster that replicas run on: one that is there, or one on this machine that ends with this process.

Ours listens on loopback only and asks for a token, has no dashboard, reports no usage, and keeps its files in a directory
of its own, which goes with it. It is started by `ray start` in a process of its own, not by `ray.init`: that one's children die
with the thread that called it. Ray gives its agents a quarter of a minute to come up and ends when they have not, as on a machine
where ten others want the same core: then it is started once more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lifecycle.errors import LifecycleError
from serving.infrastructure.cluster import keeper
from serving.infrastructure.cluster.config import MISSING

OBJECT_STORE_BYTES = 80 * 2**20  # adapters travel through it; answers do not
LOOPBACK = "127.0.0.1"
START_SECONDS = 120.0
ATTEMPTS = 3
LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # a node that is alone has the address 127.0.0.1
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # whoever calls Ray too late starts no cluster
    "RAY_worker_niceness": "0",  # 15 otherwise: everybody else on the machine would come before the model
}
log = logging.getLogger(__name__)
_lock = threading.Lock()
_users = 0
_owned: subprocess.Popen | None = None


def join(address: str) -> None:
    """Connect this process, and start a cluster first when there is no `address`. Pairs with `leave`.

    Raises LifecycleError when Ray is missing or does not come up.
    """
    global _users
    with _lock:
        if _users == 0:
            try:
                _connect(address)
            except BaseException:
                _disconnect()
                raise
        _users += 1


def leave() -> None:
    """The last one to leave ends what `join` has started; no thread of this process may call Ray any more."""
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            _disconnect()


def _connect(address: str) -> None:
    local = not address
    if local:
        os.environ.update(LOCAL)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))  # Ray reads it once in a process
    try:
        import ray
    except ImportError:
        raise LifecycleError(MISSING) from None
    if local:
        if ray.util.get_node_ip_address() != LOOPBACK:
            raise LifecycleError("something in this process has imported Ray before its settings were made; start replicas before that")
        address = _start_node()
    with ThreadPoolExecutor(1) as pool:  # in the main thread Ray would take SIGTERM from the server
        pool.submit(_quietly, ray, address).result()


def _quietly(ray, address: str) -> None:
    """Retry until the node answers: it is started beside us."""
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
            return
        except (ConnectionError, RuntimeError, ValueError) as error:
            if _owned is None or _owned.poll() is not None or time.monotonic() > until:
                raise LifecycleError(f"cannot use the Ray cluster at {address}: {str(error).splitlines()[0]}") from None
            time.sleep(0.2)


def _start_node() -> str:
    """Start a cluster of one node; its address. Once more where the machine was too busy for Ray's own patience."""
    for attempt in range(ATTEMPTS):
        address, said = _try_node()
        if address is not None:
            return address
        log.warning("Ray did not start (attempt %d of %d): %s", attempt + 1, ATTEMPTS, said)
        _disconnect()
    raise LifecycleError(f"Ray did not start: {said}. Try again when the machine is less busy, or leave --replicas out")


def _try_node() -> tuple[str | None, str]:
    """(its address once it accepts connections, or None; the end of what it said)."""
    global _owned
    # Sockets lie in it, whose paths have room for 107 bytes, and Ray needs most of them.
    directory = tempfile.mkdtemp(prefix="lr-", dir="/tmp" if Path("/tmp").is_dir() else None)
    os.environ["RAY_TMPDIR"] = directory
    ports = _free_ports(5)
    names = ("port", "dashboard-agent-grpc-port", "dashboard-agent-listen-port", "runtime-env-agent-port", "metrics-export-port")
    command = [sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--head", "--block"]
    command += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    command += [f"--node-ip-address={LOOPBACK}", "--num-cpus=0", f"--object-store-memory={OBJECT_STORE_BYTES}"]
    command += ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={directory}"]
    command += ["--no-monitor", "--include-log-monitor=false"]
    with tempfile.NamedTemporaryFile("w", prefix="lr-", suffix=".log") as output:
        _owned = subprocess.Popen(
            [sys.executable, keeper.__file__, directory, *command], stdin=subprocess.PIPE, stdout=output, stderr=output
        )
        until = time.monotonic() + START_SECONDS
        while True:
            said = " ".join(Path(output.name).read_text().split())
            if "Ray runtime started" in said:
                return f"{LOOPBACK}:{ports[0]}", said
            if _owned.poll() is not None or time.monotonic() > until:
                return None, said[-300:]
            time.sleep(0.1)


def _disconnect() -> None:
    global _owned
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    if _owned is not None:
        with contextlib.suppress(BrokenPipeError):
            _owned.stdin.close()
        _owned.wait()
        _owned = None
    shutil.rmtree(os.environ.pop("RAY_TMPDIR", ""), ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """All different, as they are taken at the same time."""
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server((LOOPBACK, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]
