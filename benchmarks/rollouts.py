"""Samples for GRPO: transformers' generate, in a static batch, beside the engine that serves.

    python benchmarks/rollouts.py                               # random weights, answers as long as they may be
    python benchmarks/rollouts.py --model registry/rlhf-dpo/1   # a trained version, asked what GRPO asks

The same prompts, temperature and longest answer; lengths are the model's own, and only tokens up to the end of an answer
count. Random weights, of the learner's `tiny` shape, hardly ever end an answer: a static batch is then at its best.
Runs in turn; the figures are medians. Prints a table and one JSON line, writes benchmarks/rollouts.{json,md}.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from results import BUILD, markdown, medians, publish
from transformers import AutoTokenizer

from lifecycle.model.checkpoint import save_checkpoint
from lifecycle.model.decoder import Decoder
from lifecycle.model.loading import load_causal_lm
from lifecycle.model.presets import ModelConfig
from lifecycle.model.tokenizer import train_tokenizer
from lifecycle.presets import preset
from lifecycle.rlhf.generate import GenerateRollouts
from lifecycle.rlhf.rollouts import Rollout, RolloutEngine
from lifecycle.world.tasks import verified_prompts
from serving.rollouts import EngineRollouts

TEMPERATURE = 0.7


def random_model(directory: Path) -> Path:
    """A checkpoint of the `tiny` preset's shape; kept if it is there already."""
    target = directory / "rollouts-tiny"
    if not (target / "config.json").exists():
        config = ModelConfig()
        words = train_tokenizer(["the quick brown fox jumps over the lazy dog"] * 4, 320)
        save_checkpoint(Decoder(config, seed=0), config, words, target)
    return target


def random_prompts(tokenizer: Any, count: int, tokens: int) -> list[list[int]]:
    """So many prompts of so many tokens."""
    draw = random.Random(0)
    return [[draw.randrange(10, len(tokenizer)) for _ in range(tokens)] for _ in range(count)]


def asked_by_grpo(tokenizer: Any, count: int) -> list[list[int]]:
    """The first prompts of the `tiny` preset's reinforcement learning."""
    tasks, _ = verified_prompts(preset("tiny").world)
    return [tokenizer.apply_chat_template(tasks[at]["prompt"], add_generation_prompt=True, return_dict=False) for at in range(count)]


def timed(engine: RolloutEngine, prompts: list[list[int]], weights: dict[str, torch.Tensor], stops: list[int], arguments: Any, seed: int) -> dict[str, float]:
    """One rollout as in a step of GRPO: new weights, then answers."""
    started = time.perf_counter()
    engine.update_weights(weights)
    updated = time.perf_counter()
    told = engine.sample(prompts, max_tokens=arguments.tokens, temperature=TEMPERATURE, stop=stops, seed=seed)
    done = time.perf_counter()
    tokens = sum(len(one.tokens) for one in told)
    return {"tokens_per_s": tokens / (done - updated), "update_ms": 1000 * (updated - started), "tokens": tokens, "seconds": done - updated}


@torch.inference_mode()
def difference(directory: Path, prompts: list[list[int]], told: list[Rollout]) -> float:
    """Mean |sampled - recomputed| in nats over all tokens; recomputed in fp32 without a cache, one answer at a time."""
    model, errors = load_causal_lm(directory, dtype=torch.float32).eval(), []
    for prompt, answer in zip(prompts, told, strict=True):
        logits = model(torch.tensor([prompt + answer.tokens])).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
        known = logits.log_softmax(-1).gather(1, torch.tensor(answer.tokens)[:, None])[:, 0]
        errors.append((known - torch.tensor(answer.logprobs)).abs())
    return torch.cat(errors).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="version directory; default: random weights")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=112)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    directory = arguments.model or random_model(BUILD / "models")
    tokenizer = AutoTokenizer.from_pretrained(directory)
    one_each = (
        asked_by_grpo(tokenizer, arguments.prompts)
        if arguments.model
        else random_prompts(tokenizer, arguments.prompts, arguments.prompt_tokens)
    )
    prompts = [prompt for prompt in one_each for _ in range(arguments.group)]
    stops = [tokenizer.convert_tokens_to_ids("<|im_end|>") if arguments.model else tokenizer.eos_token_id]
    weights = load_causal_lm(directory, dtype=torch.float32).state_dict()
    engines = {"generate": GenerateRollouts, "engine": EngineRollouts}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    loaded = {name: make(directory, dtype="auto", sequences=len(prompts)) for name, make in engines.items()}
    with closing(loaded["engine"]) as engine:
        for one in loaded.values():  # warm up
            one.sample(prompts, max_tokens=4, temperature=TEMPERATURE, stop=stops, seed=0)
        for repeat in range(arguments.repeats):
            for name, one in loaded.items():
                runs[name].append(timed(one, prompts, weights, stops, arguments, repeat))
        told = engine.sample(prompts[:32], max_tokens=arguments.tokens, temperature=TEMPERATURE, stop=stops, seed=0)
        error = difference(directory, prompts[:32], told)
        backend = type(engine.backend).__name__
    results = {name: medians(found) for name, found in runs.items()}
    ratio = results["engine"]["tokens_per_s"] / results["generate"]["tokens_per_s"]
    rows = [
        {"who samples": name, "tokens/s": found["tokens_per_s"], "new weights (ms)": found["update_ms"], "seconds": found["seconds"]}
        for name, found in results.items()
    ]
    model = f"`{directory.parent.name}/{directory.name}`" if arguments.model else "random weights of the `tiny` shape"
    text = markdown(rows) + (
        f"\n{len(prompts)} answers of at most {arguments.tokens} tokens to {arguments.prompts} prompts of "
        f"{statistics.mean(map(len, one_each)):.0f} tokens, at temperature {TEMPERATURE}; {model}, by `{backend}`. An answer has "
        f"{results['engine']['tokens'] / len(prompts):.0f} tokens on average. The engine samples "
        f"**{ratio:.1f} times** as many tokens per second, and its log-probabilities are {error:.4f} nats from "
        f"those of the model in fp32, on average. Medians of {arguments.repeats} runs in turn.\n"
    )
    figures = {"results": results, "runs": runs, "ratio": ratio, "logprob_difference": error, "backend": backend}
    publish("rollouts", figures, "Samples for GRPO", text, arguments.json)


if __name__ == "__main__":
    main()
