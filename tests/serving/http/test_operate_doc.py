"""What docs/operate.md says to type works, and what it says is there is there."""

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from scripted_engine import Catalog, scripted_model

from lifecycle.registry.commands import models
from lifecycle.rlhf.commands import rlhf
from serving.commands import serve
from serving.feedback_commands import feedback
from serving.infrastructure.api_keys import read_keys
from serving.infrastructure.feedback_sqlite import SqliteFeedback
from serving.key_commands import keys
from serving.presentation.app import create_app
from serving.top.commands import top

PAGE = (Path(__file__).parents[3] / "docs" / "operate.md").read_text()
LINES = [line for block in PAGE.split("```")[1::2] if block.startswith("\n") for line in block.splitlines()]
OTHERS = {"--retry", "--retry-delay", "--retry-connrefused", "--build"}  # of curl and docker
ROUTES = re.findall(r"(GET|POST) +(/[\w/]+)", PAGE)


def test_the_key_commands_in_their_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [re.split(r"  +", line)[0] for line in LINES if line.startswith("lifecycle keys")]
    assert len(commands) == 5
    for command in commands:
        arguments = shlex.split(command)[2:]
        if arguments[-1] == "ID":
            arguments[-1] = read_keys(Path("keys.jsonl"))[-1].id
        assert CliRunner().invoke(keys, arguments, catch_exceptions=False).exit_code == 0, command
    (left,) = read_keys(Path("keys.jsonl"))
    assert left.admin


def test_the_options_exist():
    groups = (keys, feedback, models)
    commands = (serve, rlhf, top, *groups, *(command for group in groups for command in group.commands.values()))
    known = {option for command in commands for one in command.params for option in one.opts}
    assert {option for option in re.findall(r"--[a-z][a-z-]+", PAGE) if option not in known} == OTHERS


@pytest.mark.parametrize(("method", "path"), sorted(set(ROUTES)))
def test_the_routes_exist(method, path):
    app = create_app(Catalog(scripted_model("hi")), feedback=SqliteFeedback(":memory:"))
    assert app.url_map.bind("localhost").match(path, method=method)


def test_the_feedback_shown_is_accepted():
    bodies = [line.partition("{")[2] for line in LINES if line.startswith("POST /v1/feedback")]
    app = create_app(Catalog(scripted_model("hi")), feedback=SqliteFeedback(":memory:"))
    for body in bodies:
        messages = json.dumps([{"role": "user", "content": "hello"}])
        for name in ("sft", "rlhf"):
            body = body.replace(f'"{name}"', '"parrot"')
        asked = json.loads("{" + body.replace("[...]", messages))
        assert app.test_client().post("/v1/feedback", json=asked).status_code == 201
    assert len(bodies) == 3
