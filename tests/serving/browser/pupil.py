"""A real model of a few thousand weights that has learned a handful of conversations by heart, in seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import IGNORE, Decoder
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.registry import DataRef, ModelRegistry
from lifecycle.world.tools import TOOLS

CALCULATOR = TOOLS["calculator"]
LOOKUP = {"type": "function", "function": {"name": "lookup", "description": "", "parameters": {"type": "object"}}}
HOSTILE = '**bold** and <img src=x onerror="document.title=1"> [go](javascript:alert) `<script>`'
MARKDOWN = "## Plan\n\n- one\n- *two*\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
TICKS = "tick " * 220
RUDE = "Go away."


def user(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def call(name: str, arguments: dict) -> str:
    return f'<tool_call>{json.dumps({"name": name, "arguments": arguments})}</tool_call>'


def called(name: str, arguments: dict, result: str) -> list[dict]:
    """A call as it comes back from the page: with its id, and arguments as the model wrote them."""
    made = {"id": "call_0", "type": "function", "function": {"name": name, "arguments": arguments}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "call_0", "content": result},
    ]


def lessons() -> list[tuple[list[dict], list[dict] | None, str]]:
    """(messages, tools, answer)."""
    calculation, city = {"expression": "17 * 25"}, {"city": "Rome"}
    return [
        (user("hello"), None, "Hello to you."),
        ([{"role": "system", "content": "Be brief."}, *user("hello")], None, "Hello."),
        (user("be hostile"), None, HOSTILE),
        (user("use markdown"), None, MARKDOWN),
        (user("count"), None, TICKS),
        (user("hello") + [{"role": "assistant", "content": "Hello to you."}] + user("count"), None, TICKS),
        (user("bye"), None, "See you soon."),
        (user("think"), None, "<think>One and one.</think>Two."),
        (user("multiply"), [CALCULATOR], call("calculator", calculation)),
        (user("multiply") + called("calculator", calculation, "425"), [CALCULATOR], "It is 425."),
        (user("look it up"), [LOOKUP], call("lookup", city)),
        (user("look it up") + called("lookup", city, "sunny"), [LOOKUP], "It is sunny."),
    ]


def teach(registry: ModelRegistry) -> None:
    """Publish `pupil/1`, alias `production`, which answers every lesson word for word; `rude/1`, which knows one answer;
    and `accent/1`, an adapter of the pupil."""
    torch.manual_seed(0)
    texts = [answer for *_, answer in lessons()] + ['{"expression": "17 * 25"} user assistant lookup calculator']
    tokenizer = train_tokenizer(texts * 4, 400)
    config = ModelConfig(
        vocab_size=400,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=128,
        context_length=8192,
    )

    def taught(*lessons: tuple[list[dict], list[dict] | None, str]) -> Callable[[Path], None]:
        model = Decoder(config)
        learn(model, [encode(tokenizer, *lesson) for lesson in lessons])

        def write(directory: Path) -> None:
            save_checkpoint(model, config, tokenizer, directory)
            path = directory / "generation_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "temperature": 0.0, "do_sample": False}))

        return write

    write = taught(*lessons())
    parent = registry.publish("seed", write, data=DataRef("lessons", "0" * 64), metrics={"lessons": len(lessons())})
    registry.publish("pupil", write, parents=[parent], config={"lr": 0.01}, metrics={"loss": 0.01})
    registry.publish("rude", taught((user("hello"), None, RUDE)))
    pupil = registry.load("pupil/1")
    registry.publish("accent", lambda directory: save_adapter(pupil.path, directory), parents=[pupil])
    registry.set_alias("production", "pupil/1")


def save_adapter(base: Path, directory: Path) -> None:
    """A fresh LoRA adapter as PEFT writes it: it changes nothing yet."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")).save_pretrained(
        directory
    )


def encode(tokenizer, messages: list[dict], tools: list[dict] | None, answer: str) -> tuple[list[int], int]:
    """(all tokens of a lesson, how many of them are its prompt)."""
    prompt = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    end = "" if answer == TICKS else "<|im_end|>"  # nothing ends the ticking
    tokens = tokenizer(prompt, add_special_tokens=False).input_ids
    return tokens + tokenizer(answer + end, add_special_tokens=False).input_ids, len(tokens)


def learn(model: Decoder, encoded: list[tuple[list[int], int]]) -> None:
    """Until every answer is by heart. Raises AssertionError when that does not happen."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0)
    width = max(len(tokens) for tokens, _ in encoded)
    inputs = torch.zeros(len(encoded), width - 1, dtype=torch.long)
    targets = torch.full((len(encoded), width - 1), IGNORE)
    for row, (tokens, prompt) in enumerate(encoded):
        inputs[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        targets[row, prompt - 1 : len(tokens) - 1] = torch.tensor(tokens[prompt:])
    model.train()
    for _ in range(400):
        loss = model(inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if loss.item() < 0.004:
            break
    model.eval()
    assert loss.item() < 0.02, f"the pupil did not learn: loss {loss.item():.3f}"
