"""The runbook of docs/operate.md is run as it is written, by a shell, from top to bottom."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lifecycle.registry import ModelRegistry

PAGE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)

pytestmark = pytest.mark.slow


@pytest.fixture
def mine(registry, tmp_path) -> ModelRegistry:
    """deploy/1 as production and deploy/2 beside it, of the same weights."""
    mine = ModelRegistry(tmp_path / "registry")
    shutil.copytree(registry.resolve("tiny/1").path, mine.root / "tiny" / "1")
    seed = mine.load("tiny/1")

    def copy(place):
        for name in seed.manifest.files:
            shutil.copyfile(seed.path / name, place / name)

    for number in (1, 2):
        mine.publish("deploy", copy, parents=[seed], metrics={"mean_difference": 0.0, "number": number}, config={"report_limit": 1})
    mine.set_alias("production", "deploy/1")
    return mine


def test_the_runbook(mine, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "set -euo pipefail\n" + "\n".join(BLOCKS).replace("8000", str(port))
    # A machine that is busy must not wait for longer than it is worth.
    script = script.replace("sleep 1;", "sleep 0.2;").replace("--retry-delay 1", "--retry-delay 1 --retry-max-time 120")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LIFECYCLE_REGISTRY": str(mine.root),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=tmp_path, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    try:
        told, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        told, _ = process.communicate()
    assert process.returncode == 0, told[-3000:] + (tmp_path / "serve.log").read_text()[-3000:]
    assert [(move.alias, move.target) for move in mine.alias_moves()] == [
        ("production", "deploy/1"), ("candidate", "deploy/2"), ("production", "deploy/2"),
        ("production", "deploy/1"), ("candidate", "deploy/1"),
    ]
    assert "ready, 1 engine(s)" in told and '"status":"draining"' in told
    assert mine.verify("deploy/1") == mine.verify("deploy/2") == []
