"""Two processes learn what one learns: the same losses step by step, one checkpoint, one version."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sft.tiny import Start

from lifecycle import hardware, trainers, versions
from lifecycle.errors import LifecycleError
from lifecycle.registry import ModelRegistry
from lifecycle.training import processes as processes_module
from lifecycle.training.batches import Documents, collate
from lifecycle.training.processes import Alone, Together, require_alone
from lifecycle.training.resume import Checkpoints

from . import worker

TESTS = Path(__file__).parents[1]
WORKER = TESTS / "training" / "worker.py"


def start(root: Path, stage: str, *settings: str) -> subprocess.CompletedProcess:
    """Run a stage in two processes, on a registry at `root`."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, str(WORKER), str(root), stage, *settings]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def finish(root: Path, stage: str, *settings: str) -> list[dict]:
    """The steps in the log of the version that two processes publish, once."""
    done = start(root, stage, *settings)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == f"{stage}/1" and done.stdout.count(f"{stage}/1") == 1
    return steps(root, stage)


def steps(root: Path, stage: str) -> list[dict]:
    """The steps in the log of the only version, of which nothing else is left."""
    registry = ModelRegistry(root)
    (version,) = registry.versions(stage)
    assert registry.verify(version.ref) == [] and not list((root / ".work").glob("*-*"))
    records = [json.loads(line) for line in (version.path / "training_log.jsonl").read_text().splitlines()]
    return [record for record in records if {"lr", "learning_rate"} & record.keys()]


def alone(root: Path, stage: str, *settings: str) -> list[dict]:
    """The same in this process."""
    worker.main(str(root), stage, *settings)
    return steps(root, stage)


def close(one: list[dict], other: list[dict]) -> bool:
    """Within the noise of sums in another order, which Muon, in bf16, carries on."""
    told = [[(record["step"], record["tokens"], record["loss"], record["grad_norm"]) for record in log] for log in (one, other)]
    return len(one) == len(other) and all(a == pytest.approx(b, rel=2e-3) for a, b in zip(*told, strict=True))


def test_two_processes_pretrain_like_one(tmp_path):
    assert close(finish(tmp_path / "two", "pretrain"), alone(tmp_path / "one", "pretrain"))


@pytest.mark.parametrize("settings", [["grad_accumulation=2"], ["sharded=true"]])
def test_interrupted_in_one_process_all_stop_at_that_step_and_go_on_from_there(tmp_path, settings):
    """With as many pieces as processes, which are dealt whole; and with everything spread over the two."""
    root = tmp_path / "two"
    stopped = start(root, "pretrain", *settings, "stop=1:4")
    assert stopped.returncode != 0 and "KeyboardInterrupt" in stopped.stderr
    (workspace,) = (root / ".work").glob("pretrain-*")
    assert torch.load(workspace / "resume.pt")["progress"]["step"] == 4
    assert not ModelRegistry(root).versions("pretrain")
    assert close(finish(root, "pretrain", *settings), alone(tmp_path / "one", "pretrain", *settings))


@pytest.mark.parametrize(("faster_in_bf16", "dtype"), [(0, "torch.bfloat16"), (1, "torch.float32")])
def test_all_multiply_in_what_the_leader_has_found_faster(tmp_path, faster_in_bf16, dtype):
    """In another arithmetic the weights of one would drift away from the rest."""
    done = start(tmp_path, "arithmetic", str(faster_in_bf16))
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / rank).read_text() for rank in "01"] == [dtype, dtype]


def test_a_run_goes_on_in_the_numbers_that_it_began_in(tmp_path, monkeypatch):
    """Another training, which finds something else faster meanwhile, does not change it."""
    faster = []
    monkeypatch.setattr(hardware, "_agreed", [])
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: True)
    monkeypatch.setattr(hardware, "_cpu_prefers_bf16", lambda: faster[-1])
    for prefers, workspace, dtype in ((True, "one", torch.bfloat16), (False, "two", torch.float32), (False, "one", torch.bfloat16)):
        hardware._agreed.clear()  # as in another process
        faster.append(prefers)
        Checkpoints(tmp_path / workspace)
        assert hardware.choose_arithmetic("auto", torch.device("cpu")) is dtype
    assert trainers.arguments(tmp_path / "two", 0, "auto", 1)["bf16"] is False
    assert trainers.arguments(tmp_path / "one", 0, "auto", 1)["bf16"] is True


def test_two_processes_fine_tune_like_one(tmp_path):
    for name in ("one", "two"):
        Start.make(tmp_path / name).model("pretrain")
    assert close(finish(tmp_path / "two", "sft"), alone(tmp_path / "one", "sft"))


def test_two_processes_train_with_trl_like_one(tmp_path):
    for name in ("one", "two"):
        Start.make(tmp_path / name).model("pretrain")
    settings = ("method=lora", "dtype=fp32", "batch_rows=4", "lr=0.01")
    two, one = finish(tmp_path / "two", "sft", *settings), alone(tmp_path / "one", "sft", *settings)
    for key in ("loss", "grad_norm"):
        assert two[0][key] == pytest.approx(one[0][key], rel=2e-3)
    before, one, two = (_weights(tmp_path / name) for name in ("one/pretrain/1", "one/sft/1", "two/sft/1"))
    assert (two - one).norm() < 0.03 * (one - before).norm()


def _weights(directory: Path) -> torch.Tensor:
    return torch.cat([weight.float().flatten() for _, weight in sorted(load_file(directory / "model.safetensors").items())])


def test_two_processes_reinforce_together(tmp_path):
    """Other samples than one process draws, so other answers; the same stages, each published once."""
    root = tmp_path / "two"
    Start.make(root).model("sft")
    finish(root, "rlhf")
    registry = ModelRegistry(root)
    judged = [entry["reward"] for entry in versions.read_log(registry.load("rlhf/1")) if "reward" in entry]
    assert len(judged) == registry.load("rlhf/1").manifest.config["grpo_steps"]
    assert [ref for ref in registry.refs() if ref.startswith("rlhf")] == ["rlhf/1", "rlhf-dpo/1", "rlhf-pairs/1", "rlhf-reward/1"]


def test_the_parts_of_a_batch_are_the_batch():
    tokens = np.arange(60)
    learnt = np.random.default_rng(0).random(60) < 0.5
    ends = np.cumsum([9, 2, 14, 3, 20, 12])
    documents = Documents(tokens, ends - [9, 2, 14, 3, 20, 12], ends, learnt)
    batch = collate(documents, np.arange(6))
    for parts in (1, 2, 3):
        cut = [batch.part(index, parts) for index in range(parts)]
        assert torch.equal(torch.cat([part.tokens for part in cut]), batch.tokens)
        assert torch.equal(torch.cat([part.targets for part in cut]), batch.targets)
        assert torch.equal(torch.cat([part.lengths for part in cut]), batch.lengths)
        assert sum(part.count for part in cut) == batch.count
    many = [batch.part(index, 12) for index in range(12)]
    assert all(len(part.tokens) == part.lengths.sum() > 0 for part in many)
    assert sum(part.count for part in many) == batch.count and any(part.count == 0 for part in many)


def test_one_process_shares_with_nobody():
    pieces, found = [object()], torch.ones(2)
    assert Alone().leads and Alone().share(pieces) == pieces and Alone().add_up([], found) is found
    assert Alone().agree(True, False) == (True, False) and Alone().in_turn(lambda: 3) == 3


def test_a_stage_for_one_process_says_so(monkeypatch):
    monkeypatch.setattr(processes_module, "processes", lambda: SimpleNamespace(count=2))
    with pytest.raises(LifecycleError, match="see trains in one process, and this is one of 2: start it without torchrun"):
        require_alone("see")


def test_half_of_what_torchrun_says_is_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LifecycleError, match="RANK.* is not: start several processes with torchrun --nproc-per-node"):
        Together()


def test_a_choice_of_arithmetic_that_was_never_written_down_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware, "_agreed", [])
    (tmp_path / "arithmetic").touch()  # what is left of it when the machine dies
    for _ in range(2):
        Checkpoints(tmp_path)
        assert (tmp_path / "arithmetic").read_text() in hardware.DTYPES
    assert [file.name for file in tmp_path.iterdir()] == ["arithmetic"]
