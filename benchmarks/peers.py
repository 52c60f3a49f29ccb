"""Our engine beside OpenVINO GenAI, llama.cpp and vLLM: the same weights, the same machine, turn by turn.

    python benchmarks/peers.py --prepare                    # install the peers; the first time about 20 minutes
    python benchmarks/peers.py                              # both shapes, three repeats: about fifteen minutes
    python benchmarks/peers.py --shape 15m --repeats 1      # a first look
    python benchmarks/peers.py --only ours --only llama_cpp --phase decode

Each peer lives in its own virtual environment under build/peers, from package registries alone; one that cannot be prepared
or does not run is named with the reason and left out. Everybody gets the same random weights, in bfloat16, but for
OpenVINO, which reads float16; and as many threads as this process may use cores. Prompts have 128 tokens, no two are alike,
and no engine keeps any of them; answers have 64 tokens, greedy, stop tokens ignored.

    decode N    N sequences. Tokens per second while the batch is full: those that are there after the moment when all
                sequences have their first token, up to the moment when the first of them has its last, over the time between
                the two. The whole loop without text: scheduler, model, sampling, delivery of token ids.
    prefill N   N prompts. Prompt tokens over the time from all requests being there to all first tokens being there.
    http N      N clients, each with two requests, one after the other, to `/v1/completions`, streaming, on the same cores.
                Output tokens over the time from the first request to the last end, so prompts, text and HTTP are included.

How each engine is driven stands at the top of its file: benchmarks/peer_engines/{ours,openvino,llama_cpp,vllm_cpu}.py.
llama.cpp's benchmark does not sample, which is to its advantage. Engines load once per shape and then stand still (SIGSTOP)
until it is their turn: repeat by repeat, figure by figure, one after the other. Medians count.

Prints the tables and, last, one JSON line; writes benchmarks/peers.{json,md}.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

from models import SHAPES
from peer_engines.checkpoint import full_checkpoint
from peer_engines.contender import (
    BATCHES,
    OUTPUT,
    PREFILL_BATCH,
    PROMPT,
    Contender,
    Phase,
    Question,
    Session,
    Unavailable,
)
from peer_engines.llama_cpp import LlamaCpp
from peer_engines.openvino import OpenVino
from peer_engines.ours import Ours
from peer_engines.processes import BUILD, end_all
from peer_engines.table import Column, ratios, results, table
from peer_engines.vllm_cpu import VllmCpu
from results import BUILD as MODELS
from results import HERE, publish, show_in_readme
from transformers import LlamaConfig

from lifecycle.planning import roofline

COLUMNS: tuple[Column, ...] = (
    *(("decode", batch) for batch in BATCHES),
    ("prefill", PREFILL_BATCH),
    *(("http", batch) for batch in BATCHES),
)
OVER_HTTP = ("smollm2-135m",)
"""Shapes whose servers are measured, if nobody asks for others: with a smaller model it is the HTTP of each that counts."""
PEERS = ("openvino", "llama_cpp", "vllm_cpu")
TITLE = "Our engine beside its peers"


def contenders(arguments: argparse.Namespace) -> list[Contender]:
    """Those that were asked for; ours once per precision."""
    ours = [Ours(arguments.backend, precision) for precision in arguments.precision or ["bf16"]]
    everybody: list[Contender] = [*ours, OpenVino(), LlamaCpp(), VllmCpu(arguments.vllm_threads)]
    return [one for one in everybody if not arguments.only or one.id in arguments.only]


def prepare(engines: list[Contender], left_out: dict[str, str]) -> list[Contender]:
    """Those that are ready; why the others are not goes into `left_out`."""
    ready = []
    for engine in engines:
        print(f"preparing {engine.id} ...", flush=True)
        try:
            engine.prepare()
            ready.append(engine)
        except Unavailable as error:
            leave_out(left_out, engine.id, str(error))
    return ready


def measure(
    shape: str, engines: list[Contender], arguments: argparse.Namespace, left_out: dict[str, str]
) -> list[dict]:
    """The results of one shape."""
    wanted = arguments.phase or [phase for phase in get_args(Phase) if phase != "http" or shape in OVER_HTTP]
    columns = [column for column in COLUMNS if column[0] in wanted]
    checkpoint = full_checkpoint(shape, MODELS / "models")
    logs = BUILD / "logs" / shape
    numbers = itertools.count(1)
    with ExitStack() as stack:
        sessions: list[tuple[Contender, Session]] = []
        for engine in engines:
            print(f"{shape}: starting {engine.id} ({engine.precision}) ...", flush=True)
            try:
                session = engine.start(engine.convert(checkpoint), logs)
            except Unavailable as error:
                leave_out(left_out, f"{engine.id} ({engine.precision}), {shape}", str(error))
                continue
            stack.callback(session.close)
            sessions.append((engine, session))
        runs: dict[tuple[str, str, Phase, int], list[float]] = {
            (session.name, engine.precision, *column): [] for engine, session in sessions for column in columns
        }
        for repeat in range(arguments.repeats):
            for phase, batch in columns:
                for engine, session in sessions:
                    reason = f"{session.name} ({engine.precision}), {shape}, {phase}"
                    if phase not in engine.phases or reason in left_out:
                        continue
                    try:
                        found = once_more(session, phase, batch, numbers)
                    except Unavailable as error:
                        leave_out(left_out, reason, str(error))
                        continue
                    runs[session.name, engine.precision, phase, batch].append(found)
                    print(
                        f"{shape}, repeat {repeat + 1} of {arguments.repeats}, {phase} {batch}: "
                        f"{session.name} ({engine.precision}) {found:.0f} tokens/s",
                        flush=True,
                    )
    return results(shape, runs)


def once_more(session: Session, phase: Phase, batch: int, numbers: Iterator[int]) -> float:
    """A figure, asked for a second time before it is given up."""
    try:
        return session.measure(Question(phase, batch, next(numbers)))
    except Unavailable:
        return session.measure(Question(phase, batch, next(numbers)))


def leave_out(left_out: dict[str, str], what: str, why: str) -> None:
    left_out[what] = why
    print(f"left out: {what}: {why}", file=sys.stderr, flush=True)


def limit(shape: str, machine: roofline.Machine, phase: Phase, batch: int) -> float | None:
    """Tokens per second that the machine allows in bfloat16; None for a server, whose limit is not the model's alone."""
    work = roofline.Work.of(LlamaConfig(**SHAPES[shape]))
    if phase == "prefill":
        return work.prefill_limit(machine)
    return work.decode_limit(machine, batch, PROMPT + OUTPUT / 2) if phase == "decode" else None


def render(figures: dict[str, Any]) -> str:
    """All tables in Markdown, and what one has to know to read them."""
    machine = roofline.Machine(**figures["limit"])
    parts = []
    for shape in dict.fromkeys(entry["model"] for entry in figures["results"]):
        entries = [entry for entry in figures["results"] if entry["model"] == shape]
        limits = {column: limit(shape, machine, *column) for column in COLUMNS}
        parts.append(f"### {shape}\n\n{table(entries, limits)}")
    versions = ", ".join(f"{name} {number}" for name, number in figures["versions"].items())
    parts.append(
        f"Prompts of {PROMPT} tokens, answers of {OUTPUT}, greedy; random weights. Medians of {figures['repeats']} runs in "
        f"turn. Limit: what {machine.bytes_per_s / 1e9:.0f} GB/s read and {machine.flop_per_s / 1e12:.2f} TFLOP/s allow, measured "
        f"once before the runs; what stays in caches, and cores that others use less by then, beat it. {versions}."
    )
    parts += [f"Given up after the runs that are shown, if any: {what}: {why}" for what, why in figures["left_out"].items()]
    return "\n\n".join(part.strip() for part in parts) + "\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="only install the peers")
    parser.add_argument("--only", action="append", choices=("ours", *PEERS), help="this engine; may be repeated")
    parser.add_argument("--shape", action="append", choices=tuple(SHAPES), help="this model; may be repeated")
    parser.add_argument("--phase", action="append", choices=get_args(Phase), help="this phase; may be repeated")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", default="auto", help="of our engine")
    parser.add_argument("--precision", action="append", help="of our engine, bf16 by default; may be repeated")
    parser.add_argument("--vllm-threads", choices=("auto", "all"), default="auto", help="auto: as vLLM chooses")
    parser.add_argument("--json", type=Path, help="where the measurement goes; the tables go beside it")
    parser.add_argument("--render-only", action="store_true", help="write the README again from the committed figures")
    arguments = parser.parse_args()
    if arguments.render_only:
        show_in_readme("speed", "peers", render(json.loads((HERE / "peers.json").read_text())))
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        compare(arguments)
    finally:
        end_all()


def stop(*_: object) -> None:
    """Told to end: once is enough, and everything that was started has to end before."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(143)


def compare(arguments: argparse.Namespace) -> None:
    """Prepare, measure, publish."""
    left_out: dict[str, str] = {}
    engines = prepare(contenders(arguments), left_out)
    if arguments.prepare:
        raise SystemExit(1 if left_out else 0)
    started, load = time.monotonic(), os.getloadavg()[0]
    versions = {name: number for engine in engines for name, number in engine.versions().items()}
    if load > 0.5:
        print(f"others keep this machine busy (load {load:.1f}): these figures will be indications", file=sys.stderr)
    machine = roofline.measure()
    found: list[dict[str, Any]] = []
    shapes = arguments.shape or ["15m", "smollm2-135m"]
    for shape in shapes:
        found += measure(shape, engines, arguments, left_out)
    figures = {
        "seconds": round(time.monotonic() - started),
        "load_before": round(load, 2),
        "repeats": arguments.repeats,
        "versions": versions,
        "limit": asdict(machine),
        "vllm_threads": arguments.vllm_threads,
        "left_out": left_out,
        "ratios": [
            {"model": shape, "engine": engine, "precision": precision, "phase": phase, "batch": batch, "ratio": value}
            for shape in shapes
            for (engine, precision), row in ratios([entry for entry in found if entry["model"] == shape]).items()
            for (phase, batch), value in row.items()
        ],
        "results": found,
    }
    tables = render(figures)
    publish("peers", figures, TITLE, tables, arguments.json)
    if arguments.json is None:
        show_in_readme("speed", "peers", tables)



if __name__ == "__main__":
    main()
