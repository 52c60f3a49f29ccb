"""What guessing ahead is worth: tokens per second with speculative decoding and without, for one stream and under load.

    python benchmarks/speculative.py                                   # random weights, guesses of a chosen quality
    python benchmarks/speculative.py --model production --draft small  # a model that has learned something, real guesses

The first form shows when it pays on this machine: a drafter that knows the answers makes each guess right with a given
probability. The second lets the real drafters guess for answers to the frozen questions. Either way guessing is not switched
off under load (`speculative_max_seqs`), so that the table shows where it should be. Greedy; every answer has the same length.
Contenders run in turn, figures are medians. Prints a table and one JSON line, writes benchmarks/speculative.{json,md}.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from models import SHAPES, random_checkpoint
from results import BUILD, markdown, medians, publish

from lifecycle.evaluation import sets
from serving.application.engine import EngineLoop
from serving.application.ports import Drafter, Opening
from serving.composition import ServingConfig, build_drafter
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.loading import load_backend
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.tokenizer import HFTokenizer

Prompts = list[tuple[int, ...]]
Answers = dict[tuple[int, ...], list[int]]
PROMPT_TOKENS = 64


class Knowing:
    """A `Drafter` that has the answers, and makes each guess right with probability `skill`."""

    def __init__(self, answers: Answers, skill: float, vocab_size: int) -> None:
        self._answers, self._skill, self._vocab_size = answers, skill, vocab_size
        self._random = random.Random(0)

    def propose(self, openings: Sequence[Opening]) -> list[list[int]]:
        """The next tokens of the answer, some of them changed."""
        return [self._spoil(self._known(opening)) for opening in openings]

    def release(self, sequence_id: str) -> None:
        """It keeps nothing."""

    def _known(self, opening: Opening) -> list[int]:
        at = opening.draw.position
        prompt = tuple(opening.draw.tokens[: len(opening.draw.tokens) - at])
        return self._answers[prompt][at : at + opening.most]

    def _spoil(self, tokens: list[int]) -> list[int]:
        spoilt = [(token + 1) % self._vocab_size for token in tokens]
        return [
            token if self._random.random() < self._skill else other for token, other in zip(tokens, spoilt, strict=True)
        ]


def questions(tokenizer: HFTokenizer, count: int) -> Prompts:
    """Frozen evaluation tasks of all skills in turn."""
    tasks = [task for group in zip(*(sets.load(skill) for skill in sets.skills(None)), strict=False) for task in group]
    return [tuple(tokenizer.render_chat(task["messages"], task["tools"])) for task in tasks[:count]]


def random_prompts(vocab_size: int, count: int) -> Prompts:
    """The same every time."""
    rng = random.Random(1)
    return [tuple(rng.randrange(vocab_size) for _ in range(PROMPT_TOKENS)) for _ in range(count)]


def run(engine: EngineLoop, prompts: Prompts, length: int) -> tuple[float, Answers]:
    """Seconds until all of them are answered, when they come at once, and the answers."""
    engine.pause()
    sampling = SamplingParams(temperature=0.0, max_tokens=length)
    streams = {prompt: engine.submit(Request(str(at), prompt, sampling)) for at, prompt in enumerate(prompts)}
    started = time.perf_counter()
    engine.resume()
    answers: Answers = {}
    for prompt, stream in streams.items():
        answers[prompt] = []
        events: list[Any] = [None]
        while not isinstance(events[-1], Finished):
            answers[prompt] += (token for event in events[1:] for token in event.tokens)
            events = [None, *stream.next(1.0)]
        answers[prompt] += (token for event in events[1:-1] for token in event.tokens)
    return time.perf_counter() - started, answers


def measure(
    backend: Any, config: ServingConfig, context: int, drafter: Drafter | None, prompts: Prompts, length: int
) -> tuple[dict[str, float], Answers]:
    """One run in an engine of its own."""
    engine = EngineLoop(backend, VectorSampler(), config, context_length=context, drafter=drafter)
    with closing(engine.start()):
        seconds, answers = run(engine, prompts, length)
        stats = engine.stats()
    tokens = stats.generated_tokens
    return {
        "tokens/s": tokens / seconds,
        "guesses accepted (%)": 100 * stats.accepted_tokens / max(1, stats.draft_tokens),
        "tokens a step and stream": tokens / max(1, tokens - stats.accepted_tokens),
    }, answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="A registry version or a directory; random weights without.")
    parser.add_argument("--draft", help="With --model: a smaller one of the same vocabulary.")
    parser.add_argument("--shape", choices=SHAPES, default="15m")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--skills", type=float, nargs="+", default=[0.0, 0.5, 0.8, 1.0])
    parser.add_argument("--guesses", type=int, default=4, help="num_speculative_tokens")
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    if arguments.model:
        from serving.bench.commands import checkpoint

        directory = checkpoint(arguments.model)
    else:
        directory = random_checkpoint(arguments.shape, arguments.models)
    most = max(arguments.streams)
    config = ServingConfig(
        device=arguments.device,
        dtype=arguments.dtype,
        prefix_caching=False,
        max_num_seqs=most,
        num_speculative_tokens=arguments.guesses,
        speculative_max_seqs=most,
    )
    tokenizer, backend = HFTokenizer(directory), load_backend(directory, config)
    contenders: dict[str, Callable[[Answers], Drafter | None]] = {"off": lambda known: None}
    if arguments.model:
        chosen = [replace(config, speculative="ngram")]
        if arguments.draft:
            chosen.append(replace(config, speculative="draft", draft_model=arguments.draft))
        for one in chosen:
            drafter = build_drafter(one, backend, tokenizer)
            contenders[one.speculative] = lambda known, drafter=drafter: drafter
        prompts = questions(tokenizer, most)
    else:
        for skill in arguments.skills:
            contenders[f"right with {skill:.0%}"] = lambda known, skill=skill: Knowing(known, skill, backend.vocab_size)
        prompts = random_prompts(backend.vocab_size, most)

    rows, runs = [], {}
    for streams in arguments.streams:
        asked = prompts[:streams]
        work = (backend, config, tokenizer.context_length)
        _, known = measure(*work, None, asked, arguments.output_len)  # also warms up
        found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for _ in range(arguments.repeats):
            for name, make in contenders.items():
                found[name].append(measure(*work, make(known), asked, arguments.output_len)[0])
        runs[streams] = found
        base = medians(found["off"])["tokens/s"]
        for name, measured in found.items():
            row = medians(measured)
            rows.append({"streams": streams, "guesses": name, **row, "beside off": row["tokens/s"] / base})
    who = arguments.model or f"random weights, shape `{arguments.shape}`"
    draft = f", draft model {arguments.draft}" if arguments.draft else ""
    text = markdown(rows) + (
        f"\nUp to {arguments.guesses} guesses a step; answers of {arguments.output_len} tokens, greedy; medians of "
        f"{arguments.repeats} runs in turn. Model: {who}{draft}, {arguments.device}, dtype {arguments.dtype}.\n"
    )
    figures = {"model": who, "draft": arguments.draft, "guesses": arguments.guesses, "results": rows, "runs": runs}
    publish("speculative", figures, "Speculative decoding", text, arguments.json)


if __name__ == "__main__":
    main()
