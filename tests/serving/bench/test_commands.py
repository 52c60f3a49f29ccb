"""The commands from end to end, on a real tiny model: figures that add up, pictures that open, mistakes in one line."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from lifecycle.errors import LifecycleError
from serving.application.engine import EngineLoop
from serving.application.recording import Recording, RequestRecord, StepRecord, WorkRecord
from serving.bench.commands import bench, timeline
from serving.bench.options import Shown
from serving.bench.report import emit
from serving.bench.timeline import breakdown, lanes
from serving.composition import ServingConfig, build_engine
from serving.infrastructure.catalog import Catalog
from serving.presentation.app import create_app
from serving.presentation.local import run_in_thread
from serving.simulation.commands import simulate

SMALL = ["--set", "num_blocks=128", "--set", "max_num_seqs=4", "--set", "device=cpu", "--dtype", "float32"]
CONFIG = ServingConfig(num_blocks=128, dtype="float32", device="cpu", max_num_seqs=4)


def figures(command, *arguments):
    """What a command prints last, decoded."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def recorded(checkpoint, tmp_path_factory):
    """(figures of a throughput run, its recording)."""
    directory = tmp_path_factory.mktemp("bench")
    lengths = ["--num-prompts", 9, "--input-len", 40, "--output-len", 12, "--range-ratio", 0.5]
    files = ["--record", directory / "run.jsonl", "--json", directory / "figures.json"]
    found = figures(bench, "throughput", "--model", checkpoint, *SMALL, *lengths, *files)
    assert json.loads((directory / "figures.json").read_text()) == found
    return found, directory / "run.jsonl"


@pytest.fixture(scope="module")
def server(checkpoint):
    served = build_engine(checkpoint, CONFIG, name="tiny")
    with run_in_thread(create_app(Catalog([served]))) as local:
        yield local
    served.engine.close()


def test_figures_reach_their_file_though_the_reader_of_the_terminal_is_gone(tmp_path, monkeypatch):
    def closed(line):
        raise BrokenPipeError

    monkeypatch.setattr("click.echo", closed)
    with pytest.raises(BrokenPipeError):
        emit({"figure": 1}, tmp_path / "figures.json")
    assert json.loads((tmp_path / "figures.json").read_text()) == {"figure": 1}


def test_throughput_counts_every_token(recorded):
    found, path = recorded
    requests = Recording.read(path).requests
    assert found["completed"] == len(requests) == 9
    assert found["total_output_tokens"] == sum(request.max_tokens for request in requests)
    assert found["output_tokens_per_s"] == pytest.approx(found["total_output_tokens"] / found["elapsed_time"], rel=0.01)


def test_bars_are_the_steps_and_lanes_hold_one_request_at_a_time(recorded):
    recording = Recording.read(recorded[1])
    bars = lanes(recording)
    assert len(bars) == sum(len(step.work) for step in recording.steps)
    assert {bar.lane for bar in bars} == set(range(4))
    for lane in range(4):
        own = sorted((bar for bar in bars if bar.lane == lane), key=lambda bar: bar.start)
        assert all(before.end <= after.start + 1e-9 for before, after in zip(own, own[1:], strict=False))
    for request in recording.requests:
        parts = breakdown(request)
        assert min(parts.queue, parts.prefill, parts.decode) >= 0
        assert parts.queue + parts.prefill + parts.decode == pytest.approx(request.finished - request.arrival)


def test_there_are_no_more_lanes_than_ran_at_once():
    """Batches that come and go, of two, one and three: the third one needs a place that was never used, and no more."""
    batches = [(0, 1), (2,), (3, 4, 5)]
    steps = tuple(
        StepRecord(float(n), 1.0, tuple(WorkRecord(r, "decode", 1, 0, True) for r in batch), 0, len(batch), 0, 0, 0)
        for n, batch in enumerate(batches)
    )
    requests = tuple(RequestRecord(n, 0.0, 1, 1, "a", 0, None, ()) for n in range(6))
    assert [bar.lane for bar in lanes(Recording({}, requests, steps))] == [0, 1, 0, 0, 1, 2]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_a_timeline_is_drawn(recorded, tmp_path, suffix):
    out = tmp_path / f"timeline.{suffix}"
    result = CliRunner().invoke(timeline, [str(recorded[1]), "--out", str(out)], catch_exceptions=False)
    assert "TTFT" in result.output and out.read_bytes()[:5] in (b"<?xml", b"\x89PNG\r")


def test_a_recording_without_steps_can_be_drawn(recorded, tmp_path):
    lines = recorded[1].read_text().splitlines()
    (tmp_path / "short.jsonl").write_text("\n".join(lines[:3]))
    result = CliRunner().invoke(timeline, [str(tmp_path / "short.jsonl"), "--out", str(tmp_path / "x.png")])
    assert result.exit_code == 0 and (tmp_path / "x.png").exists()


def test_a_server_is_measured_over_http(server):
    lengths = ["--num-prompts", 12, "--input-len", 20, "--output-len", 6, "--range-ratio", 0.3]
    load = ["--request-rate", 500, "--max-concurrency", 5, "--goodput", "ttft:60000 e2el:60000"]
    found = figures(bench, "serve", "--base-url", server.url, *lengths, *load)
    assert (found["completed"], found["failed"], found["model"], found["good_share"]) == (12, 0, "tiny", 1.0)
    assert 12 * 4 <= found["total_output_tokens"] <= 12 * 8
    assert 0 < found["p50_ttft_ms"] <= found["p99_ttft_ms"]
    assert found["mean_tpot_ms"] > 0


def test_tokens_may_be_drawn(checkpoint, server, monkeypatch):
    """In this process and over HTTP; what is not said is left to the model, but for the temperature."""
    asked = []
    submit = EngineLoop.submit
    monkeypatch.setattr(EngineLoop, "submit", lambda self, request: asked.append(request.sampling) or submit(self, request))
    size = ["--num-prompts", 3, "--input-len", 20, "--output-len", 6]
    drawn = figures(bench, "throughput", "--model", checkpoint, *SMALL, *size, "--temperature", 0.8, "--top-k", 5)
    assert (drawn["temperature"], drawn["top_k"], drawn["total_output_tokens"]) == (0.8, 5, 18) and "top_p" not in drawn
    assert {(one.temperature, one.top_k, one.top_p) for one in asked} == {(0.8, 5, 1.0)} and len({one.seed for one in asked}) == 4
    asked.clear()
    drawn = figures(bench, "serve", "--base-url", server.url, *size, "--temperature", 1, "--min-p", 0.1, "--top-p", 0.9)
    assert drawn["completed"] == 3 and drawn["min_p"] == 0.1
    assert {(one.temperature, one.min_p, one.top_p) for one in asked} == {(1.0, 0.1, 0.9)}
    asked.clear()
    figures(bench, "serve", "--base-url", server.url, *size)
    assert {one.is_greedy for one in asked} == {True}


def test_requests_that_the_server_refuses_are_said(server):
    with pytest.raises(LifecycleError, match="every request failed.*max_tokens|every request failed.*prompt"):
        figures(bench, "serve", "--base-url", server.url, "--num-prompts", 2, "--input-len", 600)


def test_a_recording_is_simulated_under_the_engines_own_sizes(recorded):
    found = figures(simulate, "--fit", recorded[1], "--dataset-name", "recorded", "--dataset-path", recorded[1])
    assert {row["policy"] for row in found["results"]} > {"static", "mixed-chunked"}
    for row in found["results"]:
        assert row["completed"] == 9 and row["total_output_tokens"] == recorded[0]["total_output_tokens"]


def test_replicas_and_tenants_are_simulated():
    load = ["--num-prompts", 60, "--output-len", 8, "--request-rate", 200, "--tenants", "5,1", "--replicas", 3]
    found = figures(simulate, "--policy", "fair", "--policy", "static", *load)
    assert [(row["policy"], row["completed"]) for row in found["results"]] == [("fair", 60), ("static", 60)]
    assert all(0.5 <= row["fairness"] <= 1 for row in found["results"])


@pytest.mark.parametrize(
    ("command", "words", "line"),
    [
        (bench, "throughput --backend native-x", "backend"),
        (bench, "throughput --policy mixd-chunked", 'mean "mixed-chunked"'),
        (bench, "throughput --dataset-name recorded", "--dataset-path"),
        (bench, "serve --base-url localhost", "--base-url http"),
        (bench, "serve --base-url http://127.0.0.1:9", "lifecycle serve"),
        (bench, "serve --goodput ttft", "ttft:200"),
        (bench, "serve --goodput tfft:1", 'mean "ttft"'),
        (bench, "serve --goodput itl:1", "choose one of e2el"),
        (bench, "serve --percentile-metrics ttft,tpt", 'mean "tpot"'),
        (bench, "serve --metric-percentiles 50,high", "50,90,99"),
        (simulate, "--tenants ten", "--tenants"),
        (simulate, "--policy statik", 'mean "static"'),
        (simulate, "--fit nowhere.jsonl", "nowhere.jsonl"),
        (timeline, "nowhere.jsonl", "nowhere.jsonl"),
        (timeline, "nowhere.jsonl --out x.gif", "--out"),
    ],
)
def test_a_mistake_is_one_line(command, words, line):
    with pytest.raises(LifecycleError, match=line) as error:
        CliRunner().invoke(command, words.split(), catch_exceptions=False)
    assert "\n" not in str(error.value)


def test_promises_are_read_in_milliseconds():
    assert Shown.read(("ttft:200 tpot:50", "e2el:1000"), "ttft", "99").slo == {"ttft": 0.2, "tpot": 0.05, "e2el": 1.0}


def test_help_does_not_wait_for_torch():
    code = (
        "import sys, serving.bench.commands, serving.simulation.commands; "
        "sys.exit(bool({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_server_that_records_writes_what_it_did(checkpoint, tmp_path):
    path = tmp_path / "served.jsonl"
    served = build_engine(checkpoint, CONFIG, name="tiny", record=path)
    with run_in_thread(create_app(Catalog([served]))) as local:
        load = ["--num-prompts", 5, "--input-len", 20, "--output-len", 6]
        figures(bench, "serve", "--base-url", local.url, *load)
    served.engine.close()
    recording = Recording.read(path)
    assert recording.header["model"] == "tiny" and recording.header["scheduler"]["max_num_seqs"] == 4
    assert [(r.prompt_tokens, r.output_tokens) for r in recording.requests] == [(20, 6)] * 5


def test_a_file_that_cannot_be_written_is_named(checkpoint, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LifecycleError, match="cannot record to"):
        build_engine(checkpoint, CONFIG, record=tmp_path / "file" / "x.jsonl")
