"""The proof that an artefact says what its parent says, by the engine that will run it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lifecycle.deploy.config import DeployConfig
from lifecycle.deploy.engines import Engine, engine_of
from lifecycle.deploy.engines.processes import ProcessEngine
from lifecycle.deploy.engines.torch_engine import TorchEngine
from lifecycle.errors import LifecycleError
from lifecycle.evaluation import sets

SPEED_TOKENS, SPEED_TRIES = 64, 3
"""New tokens after a short prompt, and how often: the quickest counts."""


def verify(checkpoint: Path, artefact: Path, config: DeployConfig, base: Path | None = None) -> dict[str, Any]:
    """How far an artefact is from the checkpoint that it was made from, on `config.prompts` held-out prompts.

    Both answer greedily, and both read the prompts with the checkpoint's answers:

    - "agreement", the share of positions with the same likeliest token, and "same_answers", that of answers that are the same;
    - "mean_difference" and "max_difference" of log-probabilities (nats per token), "perplexity" and "parent_perplexity";
    - "prompts", how many; "engine", which one; "tokens_per_s" of one stream; "size_mb" of all files.

    Raises LifecycleError for weights that are not finite, and when the artefact's tokenizer is another one.
    """
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    source = TorchEngine.of_checkpoint(checkpoint, torch.float32)
    asked = held_out(tokenizer, config.prompts, room=_context(checkpoint) - max(config.answer_tokens, SPEED_TOKENS))
    prompts = [tokenizer.encode(text, add_special_tokens=False) for text in asked]
    stop = stops(checkpoint, tokenizer)
    said = source.answers(prompts, config.answer_tokens, stop)
    texts = [prompt + answer for prompt, answer in zip(prompts, said, strict=True)]
    before = source.read(texts)
    source.close()
    engine = engine_of(config.target, artefact, base, config.engine)
    try:
        if isinstance(engine, ProcessEngine):
            require_same_tokens(engine, asked, prompts)
        same = [one == other for one, other in zip(said, engine.answers(prompts, config.answer_tokens, stop), strict=True)]
        after = engine.read(texts)
        speed = rate(engine, min(prompts, key=len))
    finally:
        engine.close()
    ours, theirs = (np.concatenate([reading.logprobs for reading in readings]) for readings in (before, after))
    gap = np.abs(ours - theirs)
    if not np.isfinite(gap).all():
        raise LifecycleError(f"{artefact} gives values that are not finite: its weights are broken, nothing was published")
    agreed = np.concatenate([one.likeliest == other.likeliest for one, other in zip(before, after, strict=True)])
    return {
        "agreement": float(agreed.mean()),
        "same_answers": sum(same) / len(same),
        "mean_difference": float(gap.mean()),
        "max_difference": float(gap.max()),
        "perplexity": math.exp(-theirs.mean()),
        "parent_perplexity": math.exp(-ours.mean()),
        "prompts": len(prompts),
        "engine": engine.name,
        "tokens_per_s": round(speed, 1),
        "size_mb": round(sum(file.stat().st_size for file in artefact.rglob("*") if file.is_file()) / 1e6, 3),
    }


def held_out(tokenizer: PreTrainedTokenizerBase, count: int, room: int) -> list[str]:
    """Prompts of the frozen sets through the chat template, shared out among the skills, those that have `room` tokens.

    Raises LifecycleError when none has.
    """
    skills = sets.skills(None)
    shares = [count // len(skills) + (place < count % len(skills)) for place in range(len(skills))]
    tasks = [task for skill, share in zip(skills, shares, strict=True) if share for task in sets.load(skill, share)]
    told = [
        tokenizer.apply_chat_template(task["messages"], tools=task["tools"], add_generation_prompt=True, tokenize=False) for task in tasks
    ]
    fitting = [text for text in told if len(tokenizer.encode(text, add_special_tokens=False)) <= room]
    if not fitting:
        raise LifecycleError(f"none of {count} held-out prompts fits into a context of {room} tokens: deploy a model with a longer one")
    return fitting


def stops(checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids after which nothing follows."""
    ends = tokenizer.convert_tokens_to_ids(["<|im_end|>"])
    return [token for token in dict.fromkeys([tokenizer.eos_token_id, *ends]) if token is not None]


def rate(engine: Engine, prompt: list[int]) -> float:
    """Greedy tokens per second of one stream."""
    seconds = []
    for _ in range(SPEED_TRIES):
        started = time.perf_counter()
        engine.answers([prompt], SPEED_TOKENS, ())
        seconds.append(time.perf_counter() - started)
    return SPEED_TOKENS / min(seconds)


def require_same_tokens(engine: ProcessEngine, texts: Sequence[str], expected: Sequence[list[int]]) -> None:
    """Raises LifecycleError with the first text of which the artefact's own tokenizer makes other tokens."""
    for text, tokens, found in zip(texts, expected, engine.tokens(texts), strict=True):
        if tokens != found:
            raise LifecycleError(f"{engine.name} makes other tokens of {text[:80]!r} than the tokenizer of the checkpoint: nothing was published")


def _context(checkpoint: Path) -> int:
    from lifecycle.model.directory import load_config

    config = load_config(checkpoint)
    return getattr(config, "text_config", config).max_position_embeddings
