"""A tiny real model that has learnt one conversation by heart: it calls a tool and says what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.registry import ModelRegistry
from serving.chat.tools import LocalTools

TOOLS = '''
def weather(city: str) -> dict:
    """Tells the weather.

    Args:
        city: where
    """
    return {"sky": "rain", "city": city.upper()}
'''
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
WEATHER = [
    {"role": "user", "content": "weather in Oslo?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "name": "weather", "content": '{"sky": "rain", "city": "OSLO"}'},
    {"role": "assistant", "content": "It rains."},
]
HELLO = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi there!"}]
AGAIN = [*HELLO, {"role": "user", "content": "again"}, {"role": "assistant", "content": "Hi once more!"}]
COUNT = [{"role": "user", "content": "count"}, {"role": "assistant", "content": " ".join(map(str, range(100)))}]
SHAPE = ModelConfig(
    vocab_size=420, hidden_size=64, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=128, context_length=512
)


@pytest.fixture(scope="session")
def tools(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("tools") / "tools.py"
    file.write_text(TOOLS)
    return file


@pytest.fixture(scope="session")
def registry(tools, tmp_path_factory) -> ModelRegistry:
    """Versions `clerk/1` (alias `production`) and `mute/1`, which has learnt nothing."""
    schemas = list(LocalTools.load(tools).schemas)
    lines = [message["content"] for talk in (WEATHER, AGAIN, COUNT) for message in talk] + [str(schemas), str(CALL)]
    tokenizer = train_tokenizer(lines * 2, SHAPE.vocab_size)
    talks = [(WEATHER, schemas), (WEATHER[:2], schemas), (AGAIN, None), (COUNT, None)]
    rows = [tokenizer.apply_chat_template(talk, tools=given, return_dict=False) for talk, given in talks]
    torch.manual_seed(0)
    model = Decoder(SHAPE, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=-100)
    for _ in range(150):
        logits = model(ids.clamp_min(0)[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-100)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    registry = ModelRegistry(tmp_path_factory.mktemp("registry"))
    registry.publish("clerk", lambda directory: save_checkpoint(model, SHAPE, tokenizer, directory))
    registry.publish("mute", lambda directory: save_checkpoint(Decoder(SHAPE, seed=1), SHAPE, tokenizer, directory))
    registry.set_alias("production", "clerk/1")
    return registry


@pytest.fixture
def start(registry):
    """Starts `lifecycle chat` as a process; input and output are pipes."""
    processes = []

    def run(*arguments) -> subprocess.Popen:
        environment = {**os.environ, "LIFECYCLE_REGISTRY": str(registry.root), "OMP_NUM_THREADS": "1"}
        code = "import sys; from lifecycle.cli import main; sys.argv[0] = 'lifecycle'; main()"
        command = [sys.executable, "-c", code, "chat", *map(str, arguments)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()
