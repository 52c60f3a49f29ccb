"""Questions about pictures: sixteen at once against one after the other, and what they cost those who only read text.

    python benchmarks/vision.py

Every question shows a picture of its own, so nothing comes from a cache; preprocessing is part of the time. Then eight streams
of text run alone, beside as many questions about pictures again and again, and beside questions of text with as many tokens;
once with each limit on pictures per step. Figures are medians over the runs. Random weights: an Idefics3 model with a vision
tower of four layers in front of our decoder's default shape, float32. Prints a table and one JSON line, writes
benchmarks/vision.{json,md}.
"""

from __future__ import annotations

import argparse
import itertools
import random
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from models import random_seeing_checkpoint
from results import BUILD, markdown, medians, publish

from serving.application.ports import EnginePort, ServedModel, TokenStream
from serving.application.rendering import RenderChat
from serving.composition import ServingConfig, build_engine
from serving.domain.events import Finished
from serving.domain.media import Media
from serving.domain.plan import StepReport
from serving.domain.request import Prompt, Request, SamplingParams

QUESTIONS, ANSWER = 16, 48
READERS, READ = 8, 8000
BURSTS, SECONDS_BETWEEN = 4, 1.5
"""How often the streams of text get company while they are watched."""
LIMITS = (1, 4, 0)
"""`step_pictures`; 0 is no limit."""


@dataclass
class Client:
    """Asks a model; no two requests have a prefix or a picture in common."""

    model: ServedModel
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._pixels = np.random.default_rng(self.seed)
        self._numbers = itertools.count()
        self.example = self.prompt()

    def prompt(self) -> Prompt:
        """A question about a new picture."""
        pixels = self._pixels.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        picture = Media("image", "new", (pixels,))
        content = [{"type": "image"}, {"type": "text", "text": f"{self._random.random()}: what is this?"}]
        return RenderChat([{"role": "user", "content": content}], media=(picture,)).prompt(self.model)

    def question(self, answer: int = ANSWER) -> TokenStream:
        return self._submit(self.prompt(), answer)

    def text(self, tokens: int, answer: int) -> TokenStream:
        """Random tokens, none of which is special."""
        return self._submit(Prompt(tuple(self._random.randrange(64, 256) for _ in range(tokens))), answer)

    def _submit(self, prompt: Prompt, answer: int) -> TokenStream:
        sampling = SamplingParams(temperature=0.0, max_tokens=answer)
        name = f"{self.seed}-{next(self._numbers)}"
        return self.model.engine.submit(
            Request(name, prompt.tokens, sampling, media=prompt.media, positions=prompt.positions)
        )


def finish(stream: TokenStream) -> Finished:
    end = None
    while not isinstance(end, Finished):
        end = (stream.next(1.0) or [None])[-1]
    if end.reason != "length":
        raise RuntimeError(f"a request ended with {end.error or end.reason}: these figures would be wrong")
    return end


def one_after_the_other(client: Client) -> float:
    """Answer tokens per second."""
    started = time.perf_counter()
    for _ in range(QUESTIONS):
        finish(client.question())
    return QUESTIONS * ANSWER / (time.perf_counter() - started)


def all_at_once(client: Client) -> float:
    started = time.perf_counter()
    for stream in [client.question() for _ in range(QUESTIONS)]:
        finish(stream)
    return QUESTIONS * ANSWER / (time.perf_counter() - started)


def readers(client: Client, beside: str, steps: list[float]) -> tuple[float, float]:
    """Tokens per second of the streams of text while something else arrives, and the 99th percentile of a step in ms."""
    engine = client.model.engine
    streams = [client.text(24, READ) for _ in range(READERS)]
    for stream in streams:
        stream.next(10.0)
    length = len(client.example.tokens)
    names = {one.id for one in engine.unfinished()}
    began, before = time.perf_counter(), read(engine, names)
    steps.clear()
    others = []
    for burst in range(BURSTS):
        if beside == "pictures":
            others += [client.question() for _ in range(QUESTIONS)]
        if beside == "texts":
            others += [client.text(length, ANSWER) for _ in range(QUESTIONS)]
        time.sleep(max(0.0, began + (burst + 1) * SECONDS_BETWEEN - time.perf_counter()))
    longest = 1000 * float(np.quantile(steps, 0.99))
    rate = (read(engine, names) - before) / (time.perf_counter() - began)
    for stream in streams:
        stream.cancel()
    for other in others:
        finish(other)
    return rate, longest


def read(engine: EnginePort, names: set[str]) -> int:
    found = {one.id: one.generated_tokens for one in engine.unfinished()}
    return sum(found[name] for name in names)  # a KeyError is a stream that was too short for the window


def at_the_limit(checkpoint: Path, limit: int, repeats: int) -> tuple[list[dict[str, float]], float]:
    """Every run's figures, and the largest memory of the process so far in MiB."""
    config = ServingConfig(
        step_pictures=limit, max_num_seqs=32, num_blocks=4096, device="cpu", dtype="float32", prefix_caching=False
    )
    steps: list[float] = []
    model = build_engine(
        checkpoint, config, observer=lambda one: steps.append(one.duration) if isinstance(one, StepReport) else None
    )
    client = Client(model)
    finish(client.question())
    runs = []
    for _ in range(repeats):
        alone, together = one_after_the_other(client), all_at_once(client)
        text = {beside: readers(client, beside, steps) for beside in ("nothing", "texts", "pictures")}
        rate = {beside: found[0] for beside, found in text.items()}
        runs.append(
            {
                "one after the other (tok/s)": alone,
                "all at once (tok/s)": together,
                "speed-up": together / alone,
                "streams alone (tok/s)": rate["nothing"],
                "beside texts (lost %)": 100 * (1 - rate["texts"] / rate["nothing"]),
                "beside pictures (lost %)": 100 * (1 - rate["pictures"] / rate["nothing"]),
                "step p99 beside texts (ms)": text["texts"][1],
                "beside pictures (ms)": text["pictures"][1],
            }
        )
    model.engine.close()
    return runs, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--models", type=Path, default=BUILD / "models")
    parser.add_argument("--limits", type=int, nargs="+", default=LIMITS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkpoint = random_seeing_checkpoint(arguments.models)
    rows, runs = [], {}
    for limit in arguments.limits:
        runs[limit], peak = at_the_limit(checkpoint, limit, arguments.repeats)
        rows.append({"pictures per step": limit or "no limit", **medians(runs[limit]), "peak memory (MiB)": peak})
        print(rows[-1], flush=True)
    text = markdown(rows) + (
        f"\n{QUESTIONS} questions about a picture each, {ANSWER} tokens of answer; {READERS} streams of text, beside "
        f"{QUESTIONS} questions at once every {SECONDS_BETWEEN:g} s, with pictures or of as many tokens without them. Medians of {arguments.repeats} runs "
        "in turn. Peak memory is the process's so far. Model: random weights, Idefics3 with a vision tower of 4 layers and 128 "
        "channels, pictures of 64 x 64 in patches of 8 (16 tokens), decoder of 3 layers and 128 channels, float32.\n"
    )
    publish("vision", {"results": rows, "runs": runs}, "Pictures beside texts", text, arguments.json)


if __name__ == "__main__":
    main()
