"""The comparison with other engines: what it computes from figures, and what it does when an engine is missing."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "peer_engines" / "workers")]

import peers  # noqa: E402
from peer_engines.contender import Question, Unavailable  # noqa: E402
from peer_engines.llama_cpp import read_rate  # noqa: E402
from peer_engines.processes import Worker, run  # noqa: E402
from peer_engines.table import ratios, results, table  # noqa: E402
from peer_engines.vllm_cpu import needed  # noqa: E402
from protocol import decode_rate, prefill_rate  # noqa: E402

RUNS = {
    ("ours (Fast)", "bf16", "decode", 8): [300.0, 100.0, 200.0],
    ("llama.cpp", "bf16", "decode", 8): [80.0],
    ("OpenVINO GenAI", "f16", "decode", 8): [100.0],
    ("ours (Fast)", "bf16", "http", 8): [50.0],
    ("OpenVINO GenAI", "f16", "http", 8): [],
}


def test_results_are_medians_and_have_the_keys_that_are_promised() -> None:
    found = results("15m", RUNS)
    assert len(found) == 4
    assert {key: found[0][key] for key in ("model", "engine", "precision", "phase", "batch", "tokens_per_s")} == {
        "model": "15m",
        "engine": "ours (Fast)",
        "precision": "bf16",
        "phase": "decode",
        "batch": 8,
        "tokens_per_s": 200.0,
    }


def test_a_ratio_is_over_the_best_peer_of_its_column() -> None:
    assert ratios(results("15m", RUNS)) == {("ours (Fast)", "bf16"): {("decode", 8): 2.0}}


def test_the_table_shows_who_was_not_measured() -> None:
    lines = table(results("15m", RUNS), {("decode", 8): 1234.4, ("http", 8): None}).splitlines()
    assert lines[0] == "| tokens/s |  | decode 8 | http 8 |"
    assert "| OpenVINO GenAI | f16 | 100 | - |" in lines
    assert "| **ours (Fast) / best peer** | bf16 | **2.00** | - |" in lines
    assert lines[-1] == "| limit of the machine | bf16 | 1234 | - |"


def test_decode_counts_only_what_comes_while_the_batch_is_full() -> None:
    early, late = [1.0, 2.0, 3.0, 4.0], [3.0, 4.0, 5.0, 6.0]
    assert decode_rate([early, late]) == 2.0  # one second, in which either got one token
    with pytest.raises(ValueError, match="no full batch"):
        decode_rate([[1.0, 2.0], [3.0, 4.0]])


def test_prefill_ends_with_the_last_first_token() -> None:
    assert prefill_rate({"batch": 2, "prompt": 10}, 1.0, [[2.0], [3.0]]) == 10.0


def test_figures_are_found_among_the_noise() -> None:
    said = 'main: n_kv_max = 256\n{"pp": 128, "speed_pp": 1000.5, "t_tg": 1, "speed_tg": 70.5}\n\n'
    assert read_rate(said, Question("decode", 1, 1)) == 70.5
    assert read_rate(said, Question("prefill", 8, 1)) == 1000.5
    with pytest.raises(Unavailable, match="no figures"):
        read_rate("error", Question("decode", 1, 1))


def test_what_needs_no_pictures_is_installed() -> None:
    assert needed(["regex", 'torch==2; platform_machine == "x"', "torchvision", 'scipy; extra == "audio"']) == ["regex"]


class Fake:
    """Contender and session in one."""

    phases = ("decode",)
    precision = "bf16"

    def __init__(self, name: str, told: list, *, broken: bool = False) -> None:
        self.id = self.name = name
        self.told, self.broken = told, broken

    def prepare(self) -> None:
        if self.broken:
            raise Unavailable("no compiler")

    def convert(self, checkpoint: Path) -> Path:
        return checkpoint

    def start(self, model: Path, logs: Path) -> Fake:
        return self

    def measure(self, question: Question) -> float:
        if self.name == "falls" and question.batch == 8:
            raise Unavailable("out of memory")
        self.told.append((question.batch, self.name))
        return 10.0

    def close(self) -> None:
        self.told.append("closed")


def test_engines_take_turns_and_one_that_fails_is_named_and_left_out(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(peers, "full_checkpoint", lambda shape, directory: tmp_path)
    told: list = []
    left_out: dict[str, str] = {}
    ready = peers.prepare([Fake("ours", told), Fake("falls", told), Fake("gone", told, broken=True)], left_out)
    found = peers.measure("15m", ready, argparse.Namespace(phase=["decode"], repeats=2), left_out)
    assert told[:3] == [(1, "ours"), (1, "falls"), (8, "ours")]
    assert told[-2:] == ["closed", "closed"]
    assert left_out["gone"] == "no compiler"
    assert "out of memory" in left_out["falls (bf16), 15m, decode"]
    assert [entry["batch"] for entry in found if entry["engine"] == "falls"] == [1]


def test_a_command_that_fails_says_how_and_one_that_hangs_is_ended(tmp_path) -> None:
    log = tmp_path / "log"
    with pytest.raises(Unavailable, match="exit code 3.*broken wing"):
        run(["sh", "-c", "echo a broken wing >&2; exit 3"], log=log, seconds=10)
    with pytest.raises(Unavailable, match="longer than"):
        run(["sleep", "60"], log=log, seconds=0.1)


def test_a_worker_is_ended_with_the_processes_that_it_started(tmp_path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import json, subprocess, sys\n"
        'child = subprocess.Popen(["sleep", "60"])\n'
        'print(json.dumps({"child": child.pid}), flush=True)\n'
        'for _ in sys.stdin: print(json.dumps({"tokens_per_s": 7}), flush=True)\n'
    )
    worker = Worker([sys.executable, script], tmp_path / "log")
    assert worker.ask(Question("decode", 1, 1)) == 7.0
    worker.close()
    for _ in range(50):
        if not alive(worker.ready["child"]):
            return
        time.sleep(0.02)
    raise AssertionError("the worker's own process is still there")


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
