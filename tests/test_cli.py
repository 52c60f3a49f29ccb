"""The command line: quick to load, one clear line for what a user can mend, and exit codes that a script can trust."""

import errno
import json
import os
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from lifecycle.cli import Commands, main
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer_stage import TokenizerConfig
from lifecycle.model.tokenizer_stage import run as tokenizer_stage
from lifecycle.registry import DataRef, ModelRegistry
from lifecycle.world.config import PRESETS, WorldConfig

COMMANDS = ["bench", "chat", "deploy", "evaluate", "feedback", "keys", "models", "plan", "pretrain", "report", "rlhf", "run", "see", "serve", "sft", "simulate", "speak", "timeline", "top", "voice", "world"]


@pytest.fixture
def registry(tmp_path, monkeypatch) -> ModelRegistry:
    """The registry that the commands see, in a world small enough to be told at once."""
    monkeypatch.setitem(PRESETS, "tiny", WorldConfig(documents=10, conversations=10, prompts=10))
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(tmp_path / "registry"))
    return ModelRegistry()


def refused(*words: str) -> str:
    """The one line on stderr with which a command refuses."""
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2, result.output
    assert not result.stdout
    lines = result.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("lifecycle: "), lines
    return lines[0]


def test_a_full_disk_is_one_line_that_says_what_to_do(monkeypatch):
    def fill() -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RuntimeError("the checkpoint is not whole") from error

    monkeypatch.setattr(Commands, "get_command", lambda self, context, name: click.Command(name, callback=fill))
    assert refused("pretrain") == "lifecycle: the disk is full: make room, and the same command goes on from its last checkpoint"


def test_help_lists_all_commands_and_loads_no_heavy_library():
    code = (
        "import json, sys\nfrom lifecycle.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'trl', 'peft', 'matplotlib'} & set(sys.modules))))"
    )
    *shown, loaded = subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()
    assert json.loads(loaded) == []
    listed = [line.split()[0] for line in shown[shown.index("Commands:") + 1 :]]
    assert listed == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    shown = CliRunner().invoke(main, [name, "--help"])
    assert shown.exit_code == 0 and "Usage: main " + name in shown.output
    assert len(shown.output.split("Options:")[0].strip().splitlines()) > 1


def test_explaining_a_command_loads_no_heavy_library():
    """One process for all: what none of them loads, no single one does."""
    code = (
        "import json, sys\nfrom lifecycle.cli import main\n"
        f"for name in {COMMANDS}: main([name, '--help'], standalone_mode=False)\n"
        "print(json.dumps(sorted({'torch', 'transformers', 'datasets', 'pandas', 'numpy', 'flask', 'matplotlib'} & set(sys.modules))))"
    )
    assert json.loads(subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1]) == []


def test_an_unknown_command_names_the_near_miss():
    assert 'unknown command "pretrian"' in refused("pretrian")
    assert refused("pretrian").endswith('Did you mean "pretrain"?')
    assert "choose one of bench, chat, deploy, evaluate, feedback, keys, models, plan, pretrain" in refused("xyz")


@pytest.mark.parametrize("stage", ["pretrain", "sft", "rlhf", "deploy", "run"])
def test_an_unknown_preset_names_the_near_miss(registry, stage):
    assert refused(stage, "--preset", "tinny").endswith('choose one of cluster, gpu, laptop, tiny. Did you mean "tiny"?')


@pytest.mark.parametrize(
    "words, line",
    [
        (("pretrain", "--set", "token=5"), 'Did you mean "tokens"?'),
        (("sft", "--set", "epoch=2"), 'Did you mean "epochs"?'),
        (("sft", "--set", "epochs"), "write KEY=VALUE"),
        (("sft", "--set", "epochs=many"), "\"epochs\" must be float, not 'many'"),
        (("sft", "--set", "epochs=0"), "epochs must be above zero"),
        (("sft", "--set", "method=magic"), "choose one of full, lora, adapter"),
        (("rlhf", "--set", "dpo_step=1"), 'Did you mean "dpo_steps"?'),
        (("rlhf", "--set", "grpo_group=1"), "grpo_group must be at least 2"),
        (("rlhf", "--set", "dpo_steps=-1"), "dpo_steps must not be negative"),
        (("deploy", "--target", "int3"), "choose one of bf16, fp32"),
        (("deploy", "--set", "max_tokens=0"), "max_tokens must be above zero"),
        (("deploy", "--set", "report_limit=0"), "report_limit must be above zero"),
        (("deploy", "--set", "temperature=-1"), "temperature must not be negative"),
        (("deploy", "--set", "top_p=0"), "top_p must be above 0 and at most 1"),
        (("report", "--skills", "sum"), 'Did you mean "sums"?'),
        (("sft", "--data", "nowhere.jsonl", "--parent", "x"), "nowhere.jsonl does not exist"),
    ],
)
def test_bad_settings_are_refused_in_one_line(registry, words, line):
    assert line in refused(*words)


@pytest.mark.parametrize("words", [("sft",), ("rlhf",), ("deploy",), ("report", "sft/1"), ("report",)])
def test_an_empty_registry_says_how_to_start(registry, words):
    assert "lifecycle pretrain" in refused(*words)


@pytest.mark.parametrize("stage, wants", [("sft", "pretrain"), ("rlhf", "sft"), ("deploy", "rlhf")])
def test_stages_out_of_order_are_refused(registry, stage, wants):
    vocabulary = ModelConfig().vocab_size
    tokenizer_stage(TokenizerConfig(vocab_size=vocabulary), registry, ["a b c"], DataRef("test", "0"))
    line = refused(stage, "--parent", "tokenizer/1")
    assert f"{stage} starts from a version of stage {wants}" in line and 'is of stage "tokenizer"' in line
    assert line.endswith(f"use --parent {wants}@latest")


def test_what_answers_nothing_gets_no_card(registry):
    words = ["One day Ben was in the park."] * 3
    tokenizer_stage(TokenizerConfig(vocab_size=300), registry, words, DataRef("test", "0"))
    assert 'tokenizer/1 is of stage "tokenizer" and answers nothing' in refused("report", "tokenizer/1")


def test_ctrl_c_ends_with_130_and_says_how_to_go_on(registry, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lifecycle.pipeline.sft", interrupt)
    result = CliRunner().invoke(main, ["sft"])
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr


def test_a_bug_is_not_dressed_up_as_a_users_mistake(registry, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("lifecycle.pipeline.sft", fail)
    assert isinstance(CliRunner().invoke(main, ["sft"]).exception, ZeroDivisionError)


def test_completion_does_not_refuse_half_a_word():
    context = main.make_context("lifecycle", ["pretr"], resilient_parsing=True)
    assert isinstance(main, Commands) and main.shell_complete(context, "pretr")[0].value == "pretrain"
