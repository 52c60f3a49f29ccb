"""Every example of docs/api.md runs as it is written, against a real server."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).parents[3] / "docs/api.md").read_text()
ADDRESS = "localhost:8000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: re.findall(r"client\.(\w+)", code)[0])
def test_an_example_with_the_official_client(server, code, capsys):
    exec(compile(code.replace("http://" + ADDRESS, server.url), "docs/api.md", "exec"), {})
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
