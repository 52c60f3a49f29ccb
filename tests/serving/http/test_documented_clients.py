"""Every example of docs/api.md runs as it is written, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from media.files import STILLS
from vision.families import FAMILIES

from serving.composition import ServingConfig, build_engine
from serving.infrastructure.catalog import Catalog
from serving.infrastructure.media.limits import MediaLimits
from serving.infrastructure.media.reader import MediaReader
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread

DOCUMENT = (Path(__file__).parents[3] / "docs/api.md").read_text()
ADDRESS = "localhost:8000"
PICTURE = "picture.png"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


def name_of(code: str) -> str:
    return re.findall(r"client\.(\w+)", code)[0]


def run(code: str, url: str) -> None:
    exec(compile(code.replace("http://" + ADDRESS, url), "docs/api.md", "exec"), {})


@pytest.mark.parametrize("code", [code for code in blocks("python") if PICTURE not in code], ids=name_of)
def test_an_example_with_the_official_client(server, code, capsys):
    run(code, server.url)
    assert capsys.readouterr().out.strip()


@pytest.fixture(scope="module")
def seeing(tmp_path_factory):
    """A server of a small model that sees."""
    directory = FAMILIES["smolvlm"].save(tmp_path_factory.mktemp("smolvlm"))
    model = build_engine(directory, ServingConfig(dtype="float32", num_blocks=64), name="production")
    with run_in_thread(create_app(Catalog([model]), media=MediaReader(MediaLimits()))) as server:
        yield server
    model.engine.close()


@pytest.mark.parametrize("code", [code for code in blocks("python") if PICTURE in code], ids=name_of)
def test_an_example_that_shows_something(seeing, code, capsys, tmp_path, monkeypatch):
    (tmp_path / PICTURE).write_bytes(STILLS["PNG"]())
    monkeypatch.chdir(tmp_path)
    run(code, seeing.url)
    assert capsys.readouterr().out.strip()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("script", blocks("bash"))
def test_the_curl_examples(server, script):
    written = script.replace(ADDRESS, server.url)
    done = subprocess.run(["bash", "-e", "-c", written], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stdout
    for sign in ('"chat.completion"', "data: [DONE]", "<|", '"count"', '"lineage"'):
        assert sign in done.stdout, sign


def test_the_document_has_every_field_of_a_chat():
    from serving.presentation.schemas.chat import ChatCompletionRequest

    named = set(re.findall(r"`(\w+)", DOCUMENT))
    assert not set(ChatCompletionRequest.model_fields) - named - {"parallel_tool_calls", "response_format"}
