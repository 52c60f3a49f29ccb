"""What an engine did, as JSON lines: written by a recorder, read by the timeline and the simulator.

    {"type": "header", ...}    the scheduler's configuration, the pool, the model
    {"type": "request", ...}   one came in: arrival, lengths, tenant, priority, the content of its prompt as block ids
    {"type": "end", ...}       one ended: reason, tokens
    {"type": "step", ...}      one step: who computed how many tokens from where, memory, time

Prompts themselves are not kept. `prefix` has one number per full block of PREFIX_BLOCK tokens; equal numbers mean equal
tokens *and* equal history, so a replay finds the same prefix-cache hits among prompts (the idea is that of Mooncake's
traces, arXiv 2407.00079). Requests are numbered; steps speak of them by number.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

FORMAT = 2
PREFIX_BLOCK = 16
"""Tokens per number of `RequestRecord.prefix`."""


class InvalidRecording(ValueError):
    """The file is no recording, or one of another format; the message says where."""


class WorkRecord(NamedTuple):
    """One request's share of a step."""

    request: int
    kind: Literal["prefill", "decode"]
    tokens: int
    start: int
    samples: bool


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step; `start` and `duration` in seconds, blocks after the step."""

    start: float
    duration: float
    work: tuple[WorkRecord, ...]
    waiting: int
    running: int
    kv_used: int
    kv_cached: int
    preemptions: int
    passes: int = 1
    """Of the model; `work` has the tokens of all of them."""

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request; times in seconds. What never happened is None, `reason` included when the recording broke off."""

    number: int
    arrival: float
    prompt_tokens: int
    max_tokens: int
    tenant: str
    priority: int
    deadline: float | None
    prefix: tuple[int, ...]
    output_tokens: int = 0
    cached_tokens: int = 0
    reason: str | None = None
    started: float | None = None
    """Beginning of the first step that computed for it."""
    first_token: float | None = None
    """End of the step that sampled its first token."""
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Recording:
    """`header` as written; requests by number; steps in order."""

    header: dict[str, Any]
    requests: tuple[RequestRecord, ...]
    steps: tuple[StepRecord, ...]

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Raises InvalidRecording with the line that cannot be read. A last line cut short is left out."""
        with path.open("rb") as lines:
            return cls.parse(_decode(lines))

    @classmethod
    def parse(cls, lines: Iterable[Mapping[str, Any]]) -> Recording:
        """From decoded lines; the first is the header."""
        reader = _Reader()
        for number, line in enumerate(lines, 1):
            try:
                reader.take(line)
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise InvalidRecording(f"line {number} is no line of a recording ({error!r})") from None
        return reader.recording()


class _Reader:
    """Puts the lines together: what happened to a request follows from the steps that computed for it."""

    def __init__(self) -> None:
        self._header: dict[str, Any] | None = None
        self._requests: list[dict[str, Any]] = []
        self._steps: list[StepRecord] = []
        self._ended: list[dict[str, Any]] = []  # since the last step

    def take(self, line: Mapping[str, Any]) -> None:
        kind = line["type"]
        if self._header is None:
            if kind != "header" or line["format"] != FORMAT:
                raise ValueError(f"expected a header of format {FORMAT}")
            self._header = {key: value for key, value in line.items() if key not in ("type", "format")}
        elif kind == "request":
            fields = {key: value for key, value in line.items() if key != "type"}
            self._requests.append({**fields, "prefix": tuple(line["prefix"]), "number": len(self._requests)})
        elif kind == "end":
            request = self._requests[line["request"]]
            request.update(
                output_tokens=line["output_tokens"],
                cached_tokens=line["cached_tokens"],
                reason=line["reason"],
                finished=line["time"],
            )
            self._ended.append(request)
        elif kind == "step":
            self._step(line)
        else:
            raise ValueError(f'unknown type "{kind}"')

    def recording(self) -> Recording:
        if self._header is None:
            raise InvalidRecording("the recording is empty")
        return Recording(self._header, tuple(RequestRecord(**fields) for fields in self._requests), tuple(self._steps))

    def _step(self, line: Mapping[str, Any]) -> None:
        kinds: dict[str, Literal["prefill", "decode"]] = {"p": "prefill", "d": "decode"}
        work = tuple(
            WorkRecord(number, kinds[kind], tokens, start, bool(samples))
            for number, kind, tokens, start, samples in line["work"]
        )
        memory = (line["waiting"], line["running"], line["kv_used"], line["kv_cached"], line["preemptions"])
        step = StepRecord(line["start"], line["duration"], work, *memory, line["passes"])
        self._steps.append(step)
        for item in work:
            request = self._requests[item.request]
            request.setdefault("started", step.start)
            if item.samples:
                request.setdefault("first_token", step.end)
        worked = {item.request for item in work}
        for request in self._ended:  # the ends that a step brings are written before it
            if request["number"] in worked and request["reason"] in ("stop", "length"):
                request["finished"] = step.end
        self._ended.clear()


def _decode(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except ValueError:
            if not line.endswith(b"\n"):  # the writer was stopped in the middle
                return
            raise InvalidRecording(f"line {number} is not JSON: is this a file of lifecycle serve --record?") from None
