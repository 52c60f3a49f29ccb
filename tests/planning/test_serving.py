"""What a plan of serving says follows from the shape, the machine and the traffic."""

from __future__ import annotations

from dataclasses import replace

import pytest
from click.testing import CliRunner
from sft.tiny import Start
from transformers import LlamaConfig

from lifecycle.cli import main
from lifecycle.errors import LifecycleError
from lifecycle.planning.hosts import described
from lifecycle.planning.report import report
from lifecycle.planning.roofline import Machine, Work
from lifecycle.planning.serving import HOSTS, Footprint, Host, Roofline, Traffic, load, most, people
from lifecycle.planning.steptime import StepTimeModel

CONFIG = LlamaConfig(
    vocab_size=8192, hidden_size=384, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=6, num_key_value_heads=2, head_dim=64,
    tie_word_embeddings=True,
)  # fmt: skip
SMALL = Host(Machine(48e9, 1e12), 4e9, "a laptop")
TRAFFIC = Traffic(prompt=100, answer=50)


def test_without_prompts_a_step_is_that_of_the_roofline():
    free = {"answer": 50, "per_step": 0.0, "per_sequence": 0.0, "per_request": 0.0}
    step, work = Roofline(CONFIG, "bf16", SMALL.machine, 1.0, **free), Work.of(CONFIG)
    for batch in (1, 8, 512):
        assert batch / step(batch, batch * 60, batch) == pytest.approx(work.decode_limit(SMALL.machine, batch, 60))
    assert Roofline(CONFIG, "bf16", SMALL.machine, 0.5, **free)(8, 480, 8) == pytest.approx(2 * step(8, 480, 8))


def test_around_the_computing_every_step_piece_and_request_takes_its_time():
    free = Roofline(CONFIG, "bf16", SMALL.machine, 1.0, 50, 0.0, 0.0, 0.0)
    many = Roofline(CONFIG, "bf16", SMALL.machine, 1.0, 50, 1.0, 2.0, 5.0)
    assert many(100, 480, 100) - free(100, 480, 100) == pytest.approx(1 + 2 * 100 + 5 * 100 / 50)
    assert many(10, 480, 10) - free(10, 480, 10) == pytest.approx((1 + 2 * 10) / 5 + 5 * 10 / 50)  # one of ten ends every five steps
    slow = replace(many, machine=Machine(1e6, 1e12))  # a single pass takes longer than several may
    assert slow(1, 480, 1) - replace(free, machine=slow.machine)(1, 480, 1) == pytest.approx(1 + 2 + 5 / 50)


def test_fewer_bits_are_less_memory_and_quicker_steps():
    sizes = [Footprint.of(CONFIG, target).weights for target in ("fp32", "bf16", "gguf-q8_0", "gguf-q4_k")]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == 2 * sizes[1]
    steps = [Roofline(CONFIG, target, SMALL.machine, 1.0, 50)(1, 60, 1) for target in ("bf16", "int8", "gguf-q4_k")]
    assert steps == sorted(steps, reverse=True)


def test_the_most_streams_are_limited_by_memory_or_by_the_pace():
    step, footprint = Roofline(CONFIG, "bf16", SMALL.machine, 0.65, TRAFFIC.answer), Footprint.of(CONFIG, "bf16")
    limit = most(footprint, step, TRAFFIC, SMALL.memory_bytes)
    assert load(limit, footprint, step, TRAFFIC).each >= TRAFFIC.pace > load(limit + 1, footprint, step, TRAFFIC).each
    assert load(limit, footprint, step, TRAFFIC).memory_bytes < SMALL.memory_bytes
    fitting = footprint.streams(SMALL.memory_bytes, 150)
    assert most(footprint, step, Traffic(100, 50, pace=1e-6), SMALL.memory_bytes) == fitting
    assert most(footprint, step, TRAFFIC, footprint.weights) == 0
    assert people(load(8, footprint, step, Traffic(100, 50, pause=0.0)), Traffic(100, 50, pause=0.0)) == 8


def test_a_measured_step_time_is_read_as_it_is_printed():
    model = StepTimeModel()
    assert StepTimeModel.parse(str(model)) == model
    text = report("m", CONFIG, "bf16", SMALL, model, TRAFFIC)
    assert str(model) in text and "as told" in text
    with pytest.raises(LifecycleError, match="cannot read the step time.*as lifecycle simulate --fit prints it"):
        StepTimeModel.parse("14 ms")


def test_a_machine_is_known_told_or_refused():
    assert described("h100", None, None, None) == HOSTS["h100"]
    told = described("here", 16, 100, 2)
    assert (told.machine, told.memory_bytes, told.source) == (Machine(100e9, 2e12), 16e9, "as told")
    with pytest.raises(LifecycleError, match='unknown machine "h10": choose one of a100, h100, here, l4.*"h100"'):
        described("h10", None, None, None)


def test_the_command_shows_its_assumptions(tmp_path, monkeypatch):
    start = Start.make(tmp_path / "registry")
    start.model("rlhf")
    monkeypatch.setenv("LIFECYCLE_REGISTRY", str(start.registry.root))
    machine = ["--memory", "8", "--bandwidth", "50", "--tflops", "1"]
    done = CliRunner().invoke(main, ["deploy", "plan", "rlhf/1", "--prompt", "200", *machine])
    assert done.exit_code == 0, done.output
    assert "answers at once" in done.output and "Assumed:" in done.output and "50 GB/s and 1.0 TFLOP/s" in done.output
    refused = CliRunner().invoke(main, ["deploy", "plan", "rlhf/1", "--target", "fp8", *machine])
    assert refused.exit_code == 2 and 'unknown target "fp8"' in refused.stderr
    assert "served with --max-num-seqs" in done.output
    nothing = CliRunner().invoke(main, ["deploy", "plan", "tokenizer/1", *machine])
    assert nothing.exit_code == 2 and "tokenizer/1 is no checkpoint of a model" in nothing.stderr
    small = CliRunner().invoke(main, ["deploy", "plan", "rlhf/1", "--memory", "0.001", *machine[2:]])
    assert "it does not fit" in small.output
