"""Mistakes on the command line of `lifecycle serve` are one line that says what to type."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from lifecycle.errors import LifecycleError
from serving.commands import is_loopback, serve


def run(registry, monkeypatch, *arguments):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(registry.root))
    monkeypatch.delenv("LIFECYCLE_API_KEY", raising=False)
    CliRunner().invoke(serve, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["nothing"], "nothing"),
        (["--policy", "fastest"], "continuous"),
        (["--dtype", "float7"], "bfloat16"),
        (["--max-num-seqs", "0"], "max_num_seqs"),
        (["--set", "blok_size=4"], "block_size"),
        (["--port", "70000"], "65535"),
        (["--host", "192.0.2.1", "--api-key", "k"], "--host 127.0.0.1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line(registry, monkeypatch, arguments, expected):
    with pytest.raises(LifecycleError, match=expected) as error:
        run(registry, monkeypatch, *arguments)
    assert "\n" not in str(error.value)


def test_only_this_machine_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


def test_help_does_not_wait_for_torch():
    code = "import sys, serving.commands; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
