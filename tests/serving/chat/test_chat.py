"""`lifecycle chat` as people run it, with a model of its own and with a server that runs already."""

import json
import signal
import time

import pytest

from lifecycle.errors import LifecycleError
from lifecycle.sft.data import read
from serving.chat.client import ChatClient
from serving.chat.conversation import MOST_ROUNDS, Conversation
from serving.chat.tools import LocalTools
from serving.composition import ServingConfig, build_catalog
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.presentation.state import HttpConfig

from .conftest import TOOLS

ENGINE = ("--set", "kv_memory_mb=8", "--set", "dtype=float32")
PATIENCE = 60


@pytest.fixture(scope="module")
def catalog(registry):
    catalog = build_catalog(["clerk", "mute"], ServingConfig(dtype="float32", kv_memory_mb=8), registry)
    yield catalog
    for model in catalog.engines():
        model.engine.close()


@pytest.fixture(scope="module")
def server(catalog):
    with run_in_thread(create_app(catalog, HttpConfig(api_key="secret", tick_seconds=0.02))) as server:
        yield server


def wait_until(true) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def talk(process, *lines) -> tuple[list[str], str]:
    """(lines of stdout, all of stderr) after the end of input."""
    out, err = process.communicate("".join(f"{line}\n" for line in lines), timeout=PATIENCE)
    assert process.returncode == 0, err
    return out.splitlines(), err


@pytest.mark.slow
def test_a_model_of_its_own_calls_a_tool_and_says_what_came_of_it(start, tools, tmp_path):
    saved = tmp_path / "talk.jsonl"
    process = start("--tools", tools, "--temperature", "0", *ENGINE)
    out, err = talk(process, "/tools", "weather in Oslo?", f"/save {saved}", "/tools -", "/reset", "hello", "again")
    assert out == ["It rains.", "Hi there!", "Hi once more!"], err
    assert "weather(city): Tells the weather." in err
    assert 'weather({"city": "Oslo"}) -> {"sky": "rain", "city": "OSLO"}' in err
    conversations, _ = read(saved)
    roles = [message["role"] for message in json.loads(conversations[0]["messages"])]
    assert roles == ["user", "assistant", "tool", "assistant"]


def test_a_running_server_answers_with_whichever_model_is_chosen(start, server):
    process = start("--url", server.url, "--api-key", "secret", "--temperature", "0", "--max-tokens", "5")
    out, err = talk(process, "hello", "/model mute", "/reset", "hello", "/model production", "/model nobody", "/reset", "hello")
    assert out[0] == out[-1] == "Hi there!" and len(out) >= 3
    assert "* mute" in err and "* clerk" in err and 'no model "nobody"' in err and "cut off" in err


def test_the_system_prompt_and_mistakes(start, server):
    process = start("--url", server.url, "--api-key", "secret", "--system", "Be kind.", "--max-tokens", "3")
    lines = ("/system", "/system -", "/nonsense", "/save", "/save /nowhere/at/all", "/tools /nowhere.py", "", "x" * 5000, "hello")
    out, err = talk(process, *lines)
    for expected in ("Be kind.", "no system prompt", "no command /nonsense", "say where", "cannot save", "cannot use the tools"):
        assert expected in err
    assert "shorten the prompt" in err and out, "a message that is too long is not in the way of the next one"


def test_ctrl_c_stops_the_answer_and_not_the_program(start, server, catalog):
    engine = catalog.get("clerk").engine
    process = start("--url", server.url, "--api-key", "secret", "--temperature", "0")
    engine.pause()
    try:
        process.stdin.write("count\n")
        process.stdin.flush()
        wait_until(lambda: engine._mailboxes)  # the question is there, and its answer will not come
        process.send_signal(signal.SIGINT)
        wait_until(lambda: process.stderr.readline() == "stopped\n")
    finally:
        engine.resume()
    out, _ = talk(process, "/reset", "hello")
    assert out == ["", "Hi there!"]


def test_the_part_of_an_answer_that_was_there_stays_and_the_server_computes_no_more(server, catalog):
    conversation = Conversation(ChatClient(server.url, "secret"), "clerk", {"temperature": 0})

    def press_ctrl_c(piece: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        conversation.ask("count", press_ctrl_c, print)
    assert [message["role"] for message in conversation.messages] == ["user", "assistant"]
    assert conversation.messages[1]["content"].startswith("0")
    wait_until(lambda: not catalog.get("clerk").engine._mailboxes)
    conversation.messages.clear()
    said = []
    assert conversation.ask("hello", said.append, print) == "stop" and "".join(said) == "Hi there!"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "http://127.0.0.1:9"), "no server answers"),
        (("--url", "localhost"), "no address of a server"),
        (("--url", "http://127.0.0.1:9", "--set", "dtype=float32"), "leave --url out"),
        pytest.param(("nothing",), '"nothing"', marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_begin_is_one_line(start, arguments, message):
    process = start(*arguments)
    out, err = process.communicate("", timeout=PATIENCE)
    assert (process.returncode, out) == (2, "") and message in err and "Traceback" not in err


def test_a_wrong_key_is_said_at_the_start(start, server):
    _, err = start("--url", server.url).communicate("", timeout=PATIENCE)
    assert "no API key" in err


def test_a_model_that_only_calls_tools_comes_to_an_end(registry, server, tools):
    """It has learnt to call the tool whenever nobody has; so hide from it that somebody has."""

    class Forgetful(Conversation):
        def everything(self):
            return super().everything()[:1]

    conversation = Forgetful(ChatClient(server.url, "secret"), "clerk", {"temperature": 0}, LocalTools.load(tools))
    calls = []
    conversation.ask("weather in Oslo?", lambda piece: None, calls.append)
    assert len(calls) == MOST_ROUNDS
    assert [message["role"] for message in conversation.messages[-2:]] == ["tool", "assistant"]


def test_calls_and_their_mistakes_come_back_as_text(tools):
    local = LocalTools.load(tools)
    assert local.call("weather", '{"city": "Rom"}') == '{"sky": "rain", "city": "ROM"}'
    assert "there is no tool" in local.call("sun", "{}")
    for arguments in ("{", "{}", "[]", '{"town": "Rom"}', "3"):
        assert local.call("weather", arguments).startswith("error: weather does not take these arguments")
    assert local.call("weather", '{"city": 3}').startswith("error: AttributeError")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "defines no function"),
        ("def f(x): pass", "f .* no docstring"),
        ('def f(x):\n    """Does.\n\n    Args:\n        x: it\n    """', "type hint"),
        ('def f(x: int):\n    """Does."""', "no description for the argument"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        (TOOLS.replace("def weather", "def _weather") + "\nfrom json import loads", "defines no function"),
    ],
)
def test_a_file_that_is_no_file_of_tools(tmp_path, code, message):
    file = tmp_path / "tools.py"
    file.write_text(code)
    with pytest.raises(LifecycleError, match=message):
        LocalTools.load(file)
