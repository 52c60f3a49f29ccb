"""Mistakes on the command line of `lifecycle serve` are one line that says what to type."""

import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lifecycle.errors import LifecycleError
from lifecycle.feedback.sqlite_file import FILE_NAME
from lifecycle.registry import DataRef, ModelRegistry
from serving.commands import is_loopback, serve, suggested_prompts


def run(registry, monkeypatch, *arguments):
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(registry.root))
    monkeypatch.delenv("LIFECYCLE_API_KEY", raising=False)
    CliRunner().invoke(serve, arguments, catch_exceptions=False)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--host", "0.0.0.0"], "--api-key"),
        (["--host", "0.0.0.0"], "--api-keys"),
        (["--host", "0.0.0.0", "--api-keys", "no-such-file"], "lifecycle keys"),
        (["--feedback", "/dev/null/feedback.sqlite"], "--feedback FILE"),
        (["nothing"], "nothing"),
        (["--follow", "productoin"], "lifecycle models alias productoin VERSION.*Did you mean .production"),
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


def test_a_registry_that_cannot_be_written_can_be_served_with_feedback_elsewhere(registry, monkeypatch, tmp_path):
    """Nothing but feedback is written there."""
    registry = ModelRegistry(shutil.copytree(registry.root, tmp_path / "registry"))
    (registry.root / FILE_NAME).unlink(missing_ok=True)
    (registry.root / FILE_NAME).mkdir()  # no file can be made there, not even by root
    with pytest.raises(LifecycleError, match="cannot keep feedback in .*--feedback FILE") as error:
        run(registry, monkeypatch, "--port", "0")
    assert "\n" not in str(error.value)
    before = {path: path.stat().st_mtime_ns for path in registry.root.rglob("*")}
    served = []
    monkeypatch.setattr("serving.presentation.gunicorn_app.serve_forever", lambda build, *_, **__: served.append(build()))
    run(registry, monkeypatch, "--port", "0", "--feedback", str(tmp_path / "elsewhere.sqlite"), "--follow", "production")
    for model in served[0].all():
        model.engine.close()
    assert {path: path.stat().st_mtime_ns for path in registry.root.rglob("*")} == before


def test_only_this_machine_is_loopback():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org")))


def test_the_page_offers_what_the_models_data_suggests(tmp_path):
    registry = ModelRegistry(tmp_path)
    parent, detail = (), {"examples": ["What is 2 + 2?", "Who has the ball?"]}
    for name, data in (("base", {"examples": ["old"]}), ("sft", detail), ("deploy", {})):
        version = registry.publish(
            name,
            lambda directory: (directory / "config.json").write_text("{}"),
            parents=parent,
            data=DataRef("d", "0" * 64, data),
        )
        parent = (version,)
    assert suggested_prompts(registry.lineage("deploy/1")) == tuple(detail["examples"])
    assert suggested_prompts(registry.lineage("base/1")) == ("old",)
    assert suggested_prompts([]) == ()


def test_help_does_not_wait_for_torch():
    code = "import sys, serving.commands; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_model_that_cannot_be_loaded_ends_the_command_with_the_reason():
    script = """
from lifecycle.errors import LifecycleError
from serving.presentation.gunicorn_app import listen, serve_forever
from serving.presentation.state import HttpConfig

def build():
    raise LifecycleError("tiny/1 is damaged: restore it")

try:
    serve_forever(build, listen("127.0.0.1", 0), HttpConfig())
except LifecycleError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "tiny/1 is damaged: restore it\n")
    assert "Traceback" not in done.stderr
