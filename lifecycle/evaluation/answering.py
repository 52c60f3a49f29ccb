"""Lets a version answer tasks, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from lifecycle.model.loading import load_causal_lm
from lifecycle.world.tasks import Task

MAX_NEW_TOKENS = {"story_consistency": 128, "constrained_writing": 128, "thinking": 80, "extraction": 64}
WRITING = frozenset({"story_consistency", "constrained_writing"})
TEMPERATURE = 0.7
"""Of the sampled stories; everything else is answered greedily."""


def in_lines(messages: Sequence[dict[str, Any]]) -> str:
    """A conversation for a model of plain text: a line for each message, and the next one is for the answer."""
    return "".join(f"{message['content']}\n" for message in messages)


@dataclass(frozen=True, slots=True)
class Answerer:
    """A loaded version. A base model, which has no chat template or never saw it, writes the line after the question."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    is_base: bool

    @classmethod
    def load(cls, directory: Path, *, is_base: bool = False) -> Answerer:
        """From a version directory, in fp32; what is stored in int8 stays in int8."""
        model = load_causal_lm(directory, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(directory)
        return cls(model, tokenizer, is_base or tokenizer.chat_template is None)

    def prompt(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> list[int]:
        """Token ids of what the model is asked to continue."""
        if self.is_base:
            begin = [] if self.tokenizer.bos_token_id is None else [self.tokenizer.bos_token_id]
            return [*begin, *self.tokenizer.encode(in_lines(messages), add_special_tokens=False)]
        return self.tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, return_dict=False)

    def answer(self, tasks: Sequence[Task], *, seed: int = 0, batch_size: int = 150) -> list[str]:
        """One answer per task, in order: greedy, but writing is sampled, for the likeliest story is always the same."""
        answers: list[str] = [""] * len(tasks)
        prompts = [self.prompt(task["messages"], task["tools"]) for task in tasks]
        set_seed(seed)
        for members in _batches(tasks, prompts, batch_size):
            skill = tasks[members[0]]["skill"]
            generated = self._generate([prompts[i] for i in members], MAX_NEW_TOKENS.get(skill, 48), skill in WRITING)
            for i, tokens in zip(members, generated, strict=True):
                answers[i] = self._text(tokens)
        return answers

    @torch.inference_mode()
    def _generate(self, prompts: list[list[int]], max_new_tokens: int, sample: bool) -> list[list[int]]:
        longest = max(map(len, prompts))
        pad = 0 if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id  # any token: nobody looks there
        ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])  # [B, T], padded on the left
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        stops = [self.tokenizer.eos_token_id, *self.tokenizer.convert_tokens_to_ids(["<|im_end|>"])]
        if self.is_base:
            stops.append(self.tokenizer.encode("\n", add_special_tokens=False)[0])
        generated = self.model.generate(
            ids.to(self.model.device),
            attention_mask=mask.to(self.model.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=[stop for stop in stops if stop is not None],
            **({"do_sample": True, "temperature": TEMPERATURE, "top_k": 0, "top_p": 1.0} if sample else {"do_sample": False}),
        )
        return generated[:, longest:].tolist()

    def _text(self, tokens: list[int]) -> str:
        text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return text.split("\n")[0] if self.is_base else text


def _batches(tasks: Sequence[Task], prompts: list[list[int]], size: int) -> Iterator[list[int]]:
    """Positions of tasks of the same skill and of similar length."""
    order = sorted(range(len(tasks)), key=lambda i: (tasks[i]["skill"], len(prompts[i])))
    start = 0
    for end in range(1, len(order) + 1):
        same = end < len(order) and tasks[order[end]]["skill"] == tasks[order[start]]["skill"]
        if not same or end - start == size:
            yield order[start:end]
            start = end
