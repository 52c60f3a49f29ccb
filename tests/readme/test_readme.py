"""Every command of the README runs. Needs the registry that the notebooks trained (`make test` runs them first)."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]
SERVE = next(command for command in COMMANDS if " serve " in command)
NOT_TO_REPEAT = {
    "make demo": ["make", "SMOKE=1", "PORT=8017", "demo"],  # the same, but it ends by itself
    "make test": ["make", "--dry-run", "test"],  # this very run
    ".venv/bin/jupyter lab notebooks": [".venv/bin/jupyter", "lab", "--version"],  # opens a browser
}
SHORT = [command for command in COMMANDS if command != SERVE]


def run(command: list[str] | str, timeout: float = 900) -> str:
    done = subprocess.run(
        command, shell=isinstance(command, str), cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("command", SHORT)
def test_command(command: str) -> None:
    output = run(NOT_TO_REPEAT.get(command, command))
    if "lineage" in command:
        from lifecycle.registry import ModelRegistry

        version = ModelRegistry().lineage("production")[-1]
        assert version.manifest.data.hash in output
    if command == "make demo":
        assert output.count("right: ") >= 4


def test_inline_commands() -> None:
    inline = set(re.findall(r"`((?:SMOKE=1 )?make [a-z-]+)`", README))
    assert inline == {"make demo", "SMOKE=1 make demo", "make test", "make test-fast"} - ({"make demo", "make test"} - inline)
    for target in ("demo", "test", "test-fast"):
        run(["make", "--dry-run", target])
    if shutil.which("conda"):
        run(["conda", "env", "create", "--dry-run", "-f", "environment.yml"])


def test_serving_both_models_to_the_python_client() -> None:
    """The README's server, asked by the README's program; and both models, streaming and not."""
    python = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    port = int(re.search(r"--port (\d+)", SERVE).group(1))
    server = subprocess.Popen(SERVE.split(), cwd=ROOT, env={**os.environ})
    try:
        wait(f"http://127.0.0.1:{port}/health", server)
        assert "Paris" in run([sys.executable, "-c", python])
        chat_with_both(port)
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0


def chat_with_both(port: int) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    for model, question, word in (("production", "What does a cat say?", "meow"), ("smollm2", "What is the capital of France?", "Paris")):
        request = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 40}
        whole = client.chat.completions.create(**request).choices[0].message.content
        pieces = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**request, stream=True) if chunk.choices]
        assert word in whole
        assert "".join(pieces) == whole


def wait(url: str, server: subprocess.Popen, patience: float = 120) -> None:
    until = time.monotonic() + patience
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended"
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError("the server did not become healthy")


def test_the_report_card_is_what_was_measured() -> None:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from report_card import BENCHMARKS, render, sizes
    from results import markers

    card = json.loads((BENCHMARKS / "report_card.json").read_text())
    for subject, told in (("report card", render(card)), ("sizes", sizes())):
        begin, end = markers(subject, "report_card")
        assert README.split(begin)[1].split(end)[0].strip() == told.strip()


def test_every_stage_improves_its_own_metric_beyond_noise_on_the_shown_card() -> None:
    from lifecycle.evaluation.improvement import TARGETS, improvements
    from lifecycle.evaluation.seeds import Summary

    card = json.loads((ROOT / "benchmarks" / "report_card.json").read_text())
    found = improvements([Summary(**one) for one in card["summaries"]])
    assert [one.model for one in found] == list(TARGETS)
    assert all(one.beyond_noise for one in found), [str(one) for one in found]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
