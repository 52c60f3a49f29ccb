"""A recording says what the engine did: the same whether kept in memory or written to a file."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from serving.application.recorder import FileRecorder, StepRecorder
from serving.application.recording import PREFIX_BLOCK, InvalidRecording, Recording
from serving.domain.config import SchedulerConfig
from serving.domain.events import Finished
from serving.domain.plan import StepReport
from serving.domain.request import Request, SamplingParams

CONFIG = SchedulerConfig(
    policy="continuous-batched-prefill", block_size=4, num_blocks=64, max_num_seqs=2, max_num_batched_tokens=16
)


def requests(count=6):
    rng = random.Random(0)
    shared = tuple(rng.randrange(61) for _ in range(2 * PREFIX_BLOCK))
    for number in range(count):
        own = tuple(rng.randrange(61) for _ in range(rng.randint(1, 9)))
        yield Request(
            f"r{number}",
            (shared if number % 2 else shared[:PREFIX_BLOCK]) + own,
            SamplingParams(temperature=0.0, max_tokens=1 + number),
            tenant="ab"[number == 5],
            priority=number,
        )


@pytest.fixture(scope="module")
def recorded(run_engine, tmp_path_factory):
    """The same run in memory and in a file."""
    memory, path = StepRecorder(), tmp_path_factory.mktemp("recorded") / "run.jsonl"
    file = FileRecorder(path)
    file.begin(CONFIG, num_blocks=64)

    def both(observation):
        memory(observation)
        file(observation)

    run_engine(CONFIG, list(requests()), both)
    return memory, path


def test_a_file_says_what_memory_says(recorded):
    memory, path = recorded
    read = Recording.read(path)  # complete without `close`: nothing runs any more
    assert read == memory.recording(CONFIG, 64)
    assert read.header["scheduler"]["max_num_seqs"] == 2 and read.header["scheduler"]["num_blocks"] == 64


def test_what_happened_to_a_request_follows_from_its_steps(recorded):
    recording = Recording.read(recorded[1])
    for asked, request in zip(requests(), recording.requests, strict=True):
        assert (request.prompt_tokens, request.tenant, request.priority, request.output_tokens, request.reason) == (
            len(asked.prompt_tokens),
            asked.tenant,
            asked.priority,
            asked.sampling.max_tokens,
            "length",
        )
        assert request.arrival <= request.started < request.first_token <= request.finished
        work = [item for step in recording.steps for item in step.work if item.request == request.number]
        assert sum(item.samples for item in work) == request.output_tokens
        computed = request.prompt_tokens - request.cached_tokens + request.output_tokens - 1
        assert sum(item.tokens for item in work) == computed
        assert work[0].start == request.cached_tokens


def test_equal_prefixes_have_equal_numbers_and_tenants_share_none(recorded):
    prefixes = [request.prefix for request in Recording.read(recorded[1]).requests]
    assert prefixes[0] == prefixes[2] == prefixes[1][:1] and prefixes[1] == prefixes[3]
    assert not set(prefixes[5]) & set(prefixes[3])


def test_steps_are_the_engines_reports(recorded):
    memory, path = recorded
    for report, step in zip(memory.reports, Recording.read(path).steps, strict=True):
        assert [(item.kind, item.tokens, item.start, item.samples) for item in step.work] == [
            (item.kind, item.tokens, item.start, item.samples) for item in report.work
        ]
        assert (step.waiting, step.running, step.kv_used) == (report.waiting, report.running, report.kv_used)


def test_a_file_is_bounded(tmp_path, recorded):
    small = FileRecorder(tmp_path / "small.jsonl", limit=2000)
    small.begin(CONFIG, num_blocks=64)
    for request in requests():
        small(request)
    for report in recorded[0].reports * 10:
        small(report)
    assert (tmp_path / "small.jsonl").stat().st_size <= 2000
    assert len(Recording.read(tmp_path / "small.jsonl").requests) == 6


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here, a disk that is always full")
def test_a_full_disk_ends_the_recording_with_one_line_and_nothing_else(recorded, caplog):
    full = FileRecorder(Path("/dev/full"))
    full.begin(CONFIG, num_blocks=64)
    for request in requests():
        full(request)
    for report in recorded[0].reports * 10:
        full(report)
    full.close()
    (line,) = [record.message for record in caplog.records]
    assert line == "cannot write /dev/full (No space left on device): recording ends here"


def test_a_recorder_that_came_late_or_forgot_is_no_trouble():
    recorder = StepRecorder(limit=3)
    for request in requests():
        recorder(request)
    recorder(StepReport(1, 0.0, 1.0, (), 0, 0, 0, 0, 64, 0))
    recorder(Finished("r0", "cancelled", 5, 0))
    assert [request.prompt_tokens for request in recorder.recording(CONFIG, 64).requests] == [
        len(list(requests())[5].prompt_tokens)
    ]


def test_an_id_that_is_used_again_is_another_request():
    first, second = list(requests(2))
    recorder = StepRecorder()
    for seen in (
        first,
        Finished("r0", "cancelled", 9, 0),
        first,
        StepReport(1, 0.0, 1.0, (), 0, 1, 0, 0, 64, 0),
        Finished("r0", "stop", 9, 3),
    ):
        recorder(seen)
    assert [request.reason for request in recorder.recording(CONFIG, 64).requests] == ["cancelled", "stop"]


def test_what_is_no_recording_is_named(tmp_path, recorded):
    file = tmp_path / "x.jsonl"
    good = recorded[1].read_text().splitlines()
    for text, message in [
        ("", "empty"),
        ("hello\nworld\n", "line 1 is not JSON"),
        ('{"a": 1}\n', "line 1"),
        (good[1] + "\n", "header of format"),
        (good[0] + '\n{"type": "step"}\n', "line 2"),
        (good[0] + '\n{"type": "end", "request": 7, "time": 0, "reason": "", "output_tokens": 0}\n', "line 2"),
    ]:
        file.write_text(text)
        with pytest.raises(InvalidRecording, match=message):
            Recording.read(file)
    file.write_text("\n".join(good[:-1]) + "\n" + good[-1][:20])
    assert len(Recording.read(file).steps) == len(Recording.read(recorded[1]).steps) - 1
    assert json.loads(good[0])["format"] == 2
