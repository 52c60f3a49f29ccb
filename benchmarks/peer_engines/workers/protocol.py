"""What all workers share. Standard library only: a worker runs in its own engine's environment."""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO


def channel() -> TextIO:
    """Where answers go. Whatever libraries print to standard output ends up with the errors instead."""
    private = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return private


def serve(answers: TextIO, ready: dict[str, Any], measure: Callable[..., float]) -> None:
    """Say that the model is loaded, then answer questions until there are none."""
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = {"tokens_per_s": measure(question)}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers, flush=True)


def prompts(question: dict[str, Any], vocab_size: int) -> list[list[int]]:
    """Random token ids; the first ones are left out, as they are special."""
    rng = random.Random(question["number"])
    return [rng.choices(range(300, vocab_size), k=question["prompt"]) for _ in range(question["batch"])]


def rate(question: dict[str, Any], started: float, arrivals: Sequence[Sequence[float]]) -> float:
    """Tokens per second; `arrivals`: when each token of each sequence was there."""
    if any(len(times) != question["output"] for times in arrivals) or len(arrivals) != question["batch"]:
        raise ValueError(f"expected {question['output']} tokens for each prompt, got {[len(t) for t in arrivals]}")
    return decode_rate(arrivals) if question["phase"] == "decode" else prefill_rate(question, started, arrivals)


def decode_rate(arrivals: Sequence[Sequence[float]]) -> float:
    """While the batch is full: from the moment when all have their first token to the moment when one has its last."""
    start, end = max(times[0] for times in arrivals), min(times[-1] for times in arrivals)
    if end <= start:
        raise ValueError("the first sequence ended before the last one began: there is no full batch to measure")
    return sum(start < when <= end for times in arrivals for when in times) / (end - start)


def prefill_rate(question: dict[str, Any], started: float, arrivals: Sequence[Sequence[float]]) -> float:
    """Prompt tokens, from the moment when all requests are there to the moment when all have their first token."""
    return question["batch"] * question["prompt"] / (max(times[0] for times in arrivals) - started)
