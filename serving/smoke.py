"""Ask a freshly trained model six questions over HTTP and judge its answers: `python -m serving.smoke`.

Starts `lifecycle serve production`, prints question and answer, stops the server, and exits 0 only if most answers are
right for the world that the model was trained on. A small model may have any single one wrong; one that learnt nothing has all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request

from lifecycle.world.examples import EXAMPLES
from lifecycle.world.verifiers import verify

QUESTIONS, ENOUGH = EXAMPLES[:6], 4
"""What is asked, and how many answers have to be right."""
PATIENCE = 120.0
"""Seconds that a server gets until it is healthy."""


def main() -> int:
    """Exit code: 0 when enough answers are right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="production")
    arguments = parser.parse_args()
    base = f"http://127.0.0.1:{arguments.port}"
    command = [sys.executable, "-m", "lifecycle.cli", "serve", arguments.model, "--port", str(arguments.port)]
    server = subprocess.Popen(command)
    try:
        wait_until_healthy(base, server)
        right = sum(ask(base, arguments.model, example) for example in QUESTIONS)
        print(f"{right} of {len(QUESTIONS)} right, {ENOUGH} are enough", flush=True)
        return 0 if right >= ENOUGH else 1
    finally:
        server.terminate()
        server.wait(30)


def wait_until_healthy(base: str, server: subprocess.Popen) -> None:
    """Returns when /health answers 200; SystemExit when the server ends or takes too long."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            raise SystemExit(f"the server ended with exit code {server.returncode}")
        try:
            with urllib.request.urlopen(f"{base}/health", timeout=2):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise SystemExit(f"the server was not healthy within {PATIENCE:.0f} s")


def ask(base: str, model: str, example) -> bool:
    """Print one question and its answer; True when it is right."""
    body = {"model": model, "messages": [{"role": "user", "content": example.prompt}], "temperature": 0}
    request = urllib.request.Request(
        f"{base}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)["choices"][0]["message"]["content"] or ""
    right = verify(example.check, answer)
    print(f"{'right' if right else 'WRONG'}: {example.prompt} -> {answer}", flush=True)
    return right


if __name__ == "__main__":
    raise SystemExit(main())
