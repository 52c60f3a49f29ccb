"""Our continuous batching beside transformers' own, in one process and interleaved, on one model with random weights.

    python benchmarks/continuous_batching.py                       # SmolLM2-135M's shape, 32 streams, prompts 128, outputs 64
    python benchmarks/continuous_batching.py --shape 15m --num-prompts 8 --repeats 5

Greedy, bfloat16, the same threads for everybody. `tokens/s` counts generated tokens from the first request to the last
token, prefill included; the median of the repeats is shown. Prints the table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import torch
import transformers
from models import SHAPES
from report_card import machine
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from serving.application.engine import EngineLoop
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.request import Request, SamplingParams
from serving.infrastructure.padded_backend import PaddedTorchBackend
from serving.infrastructure.sampler import VectorSampler
from serving.infrastructure.torch_backend import PackedTorchBackend

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "continuous_batching"
Prompts = list[list[int]]


def build(shape: str) -> LlamaForCausalLM:
    """The same random weights every time."""
    torch.manual_seed(0)
    return (
        LlamaForCausalLM(LlamaConfig(**SHAPES[shape], bos_token_id=None, eos_token_id=None)).to(torch.bfloat16).eval()
    )


def engine(backend_class: type, model: LlamaForCausalLM, prompts: Prompts, length: int) -> Callable[[], None]:
    """The engine with its default policy, from the moment that all requests are in its queue."""
    config = SchedulerConfig(max_num_seqs=len(prompts), prefix_caching=False)
    backend = backend_class(model, block_size=config.block_size)
    context = model.config.max_position_embeddings

    def run() -> None:
        sampling = SamplingParams(temperature=0.0, max_tokens=length)
        with closing(EngineLoop(backend, VectorSampler(), config, context_length=context).start()) as loop:
            streams = [loop.submit(Request(str(i), tuple(p), sampling)) for i, p in enumerate(prompts)]
            for stream in streams:
                while not any(isinstance(event, Finished) for event in stream.next(1.0)):
                    pass

    return run


def generate_batch(model: LlamaForCausalLM, prompts: Prompts, length: int) -> Callable[[], None]:
    """transformers' continuous batching."""
    config = GenerationConfig(max_new_tokens=length, do_sample=False, eos_token_id=-1, pad_token_id=0)

    def run() -> None:
        outputs = model.generate_batch(prompts, generation_config=config)
        assert sum(len(output.generated_tokens) for output in outputs.values()) == len(prompts) * length

    return run


def generate(model: LlamaForCausalLM, prompts: Prompts, length: int) -> Callable[[], None]:
    """transformers' static batch; it may not exist in a server, but it is what batching costs without one."""
    ids = torch.tensor(prompts)

    def run() -> None:
        output = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False, pad_token_id=0
        )
        assert output.shape == (len(prompts), len(prompts[0]) + length)

    return run


def measure(shape: str, num_prompts: int, input_len: int, output_len: int, repeats: int, only: list[str]) -> dict:
    """Seconds of every contender, all of them once per repeat, after one short warm-up each."""
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randint(SHAPES[shape]["vocab_size"], (num_prompts, input_len), generator=generator).tolist()
    makers = {
        "engine, packed": lambda *work: engine(PackedTorchBackend, build(shape), *work),
        "engine, padded": lambda *work: engine(PaddedTorchBackend, build(shape), *work),
        "transformers generate_batch": lambda *work: generate_batch(build(shape), *work),
        "transformers generate": lambda *work: generate(build(shape), *work),
    }
    runs = {name: make(prompts, output_len) for name, make in makers.items() if not only or name in only}
    for name in runs:
        makers[name](prompts[:2], 4)()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
            print(f"{name}: {seconds[name][-1]:.2f} s", flush=True)
    rate = {name: round(num_prompts * output_len / statistics.median(taken), 1) for name, taken in seconds.items()}
    return {
        "benchmark": "continuous_batching",
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
        "libraries": {"torch": torch.__version__, "transformers": transformers.__version__},
        "workload": {"shape": shape, "prompts": num_prompts, "input_len": input_len, "output_len": output_len},
        "dtype": "bfloat16",
        "seconds": seconds,
        "output_tokens_per_s": rate,
    }


def render(measured: dict) -> str:
    """The table in Markdown with what was measured and where."""
    rate, work = measured["output_tokens_per_s"], measured["workload"]
    peer = rate.get("transformers generate_batch")
    rows = [f"| {name} | {value:.0f} | {f'{value / peer:.1f}x' if peer else ''} |" for name, value in rate.items()]
    return (
        "| | tokens/s | beside generate_batch |\n|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n{work['prompts']} streams, prompts of {work['input_len']} and answers of {work['output_len']} tokens, greedy, "
        + f"{measured['dtype']}; random weights in the shape `{work['shape']}`; median of {len(next(iter(measured['seconds'].values())))} "
        + f"interleaved runs on {measured['threads']} thread(s) of {measured['machine']}, {measured['date']}, "
        + ", ".join(f"{name} {version}" for name, version in measured["libraries"].items())
        + ".\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--num-prompts", type=int, default=32)
    parser.add_argument("--input-len", type=int, default=128)
    parser.add_argument("--output-len", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", action="append", default=[], help="a contender's name; may be repeated")
    parser.add_argument("--json", type=Path, help="where the measurement goes; the table goes beside it")
    chosen = parser.parse_args()
    measured = measure(
        chosen.shape, chosen.num_prompts, chosen.input_len, chosen.output_len, chosen.repeats, chosen.only
    )
    table = render(measured)
    target = chosen.json or (None if chosen.only else OUTPUT.with_suffix(".json"))
    if target:
        target.write_text(json.dumps(measured, indent=1) + "\n")
        target.with_suffix(".md").write_text("# Continuous batching\n\n" + table)
    print(table)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
