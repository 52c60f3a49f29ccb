"""Counters and histograms in Prometheus' text format, named after vLLM's so that its dashboards need one rename.

As there, a request is what the engine sees: one choice of one prompt. An answer with n = 2 counts as two.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from serving.application.canary import Canary, Shadow, is_failure
from serving.application.deltas import ChoiceFinished, Delta
from serving.application.generation import Generation
from serving.application.ports import EngineStats, ServedModel
from serving.domain.canary import Outcome

PREFIX = "serving:"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
COUNT_BUCKETS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))
CHOICE_BUCKETS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
HISTOGRAMS = {
    "time_to_first_token_seconds": (LATENCY_BUCKETS, "From the arrival of a request to its first token."),
    "inter_token_latency_seconds": (TOKEN_BUCKETS, "Between two tokens of one request."),
    "request_time_per_output_token_seconds": (TOKEN_BUCKETS, "Mean of a request's inter-token latencies."),
    "e2e_request_latency_seconds": (LATENCY_BUCKETS, "From the arrival of a request to its end."),
    "request_prompt_tokens": (COUNT_BUCKETS, "Tokens of a request's prompt."),
    "request_generation_tokens": (COUNT_BUCKETS, "Tokens of a request's answer."),
    "request_params_n": (CHOICE_BUCKETS, "Answers asked for per prompt."),
}
ENDS = {"tool_calls": "stop", "cancelled": "abort"}  # the engine stops at a tool call like at anything else


class Histogram:
    """Cumulative buckets of seconds or counts. Not locked: `Metrics` does that."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = tuple(buckets)
        self.counts = [0] * (len(self.buckets) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `times` observations of the same size."""
        self.counts[bisect_left(self.buckets, value)] += times
        self.total += value * times

    def lines(self, name: str, labels: str) -> Iterable[str]:
        """The samples of this histogram."""
        running = 0
        for bound, count in zip([*map(str, self.buckets), "+Inf"], self.counts, strict=True):
            running += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {running}'
        yield f"{name}_sum{{{labels}}} {self.total:.6f}"
        yield f"{name}_count{{{labels}}} {running}"


class ModelMetrics:
    """What HTTP sees of one model; the engine counts the rest."""

    def __init__(self) -> None:
        self.histograms = {name: Histogram(buckets) for name, (buckets, _) in HISTOGRAMS.items()}
        self.finished: Counter[str] = Counter({"stop": 0, "length": 0, "abort": 0, "error": 0})


class Metrics:
    """All models' metrics. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, ModelMetrics] = {}

    def observe(self, model: str, name: str, value: float, times: int = 1) -> None:
        """Add to a histogram."""
        with self._lock:
            self._models.setdefault(model, ModelMetrics()).histograms[name].observe(value, times)

    def finish(self, model: str, reason: str) -> None:
        """Count a choice that ended."""
        with self._lock:
            self._models.setdefault(model, ModelMetrics()).finished[reason] += 1

    def render(self, models: Sequence[ServedModel]) -> str:
        """The page that Prometheus scrapes."""
        with self._lock:
            for model in models:
                self._models.setdefault(model.name, ModelMetrics())
            lines = [*_engine_lines(models), *self._http_lines()]
        return "\n".join(lines) + "\n"

    def _http_lines(self) -> Iterable[str]:
        name = f"{PREFIX}request_success_total"
        yield from head(name, "counter", "Requests that have ended, by why.")
        for model, metrics in self._models.items():
            for reason, count in metrics.finished.items():
                yield f'{name}{{{_label(model)},finished_reason="{reason}"}} {count}'
        for kind, (_, text) in HISTOGRAMS.items():
            yield from head(PREFIX + kind, "histogram", text)
            for model, metrics in self._models.items():
                yield from metrics.histograms[kind].lines(PREFIX + kind, _label(model))


@dataclass(slots=True)
class Progress:
    """How far one choice has come: its tokens, and when the first and the last of them were seen."""

    tokens: int = 0
    first: float = 0.0
    last: float = 0.0


class Meter:
    """Times the choices of one answer: first token, the steps between tokens, the end.

    `canary` is told how it went, and `shadow` what was said.
    """

    def __init__(
        self, metrics: Metrics, generation: Generation, canary: Canary | None = None, shadow: Shadow | None = None
    ) -> None:
        self._canary, self._shadow, self._failed = canary, shadow, False
        self._closed = False
        self._metrics = metrics
        self._generation = generation
        self._model = generation.model.name
        self._start = time.monotonic()
        self._progress = [Progress() for _ in generation.choices]
        self._per_prompt = max(1, len(generation.choices) // len(generation.prompts))
        self._observe("request_params_n", self._per_prompt, len(generation.prompts))

    def observe(self, deltas: Sequence[Delta]) -> None:
        """After every update."""
        now = time.monotonic()
        if self._shadow is not None:
            self._shadow.heard(deltas)
        for progress, choice in zip(self._progress, self._generation.choices, strict=True):
            if choice.completion_tokens > progress.tokens:
                self._advance(progress, choice.completion_tokens, now)
        for delta in deltas:
            if isinstance(delta, ChoiceFinished):
                self._finish(delta, now)

    def close(self) -> None:
        """It is over; whose choices have not finished, that client left. More often does no harm."""
        if self._closed:
            return
        self._closed = True
        left = [choice for choice in self._generation.choices if not choice.finished]
        for _ in left:
            self._metrics.finish(self._model, "abort")
        if self._shadow is not None:
            self._shadow.end(whole=not left and not self._failed)
        if self._canary is not None:
            self._canary.observe(self._generation.model.version, self._outcome())

    def _outcome(self) -> Outcome:
        """Of the whole answer: its earliest token, and the mean gap of all its choices."""
        begun = [progress for progress in self._progress if progress.tokens]
        gaps = sum(progress.tokens - 1 for progress in begun)
        return Outcome(
            self._failed,
            min(progress.first for progress in begun) - self._start if begun else None,
            sum(progress.last - progress.first for progress in begun) / gaps if gaps else None,
        )

    def _advance(self, progress: Progress, tokens: int, now: float) -> None:
        """Several tokens that came together took the same time each, the first one of a request aside."""
        new = tokens - progress.tokens
        if progress.tokens == 0:
            progress.first = progress.last = now
            self._observe("time_to_first_token_seconds", now - self._start)
            new -= 1
        if new:
            self._observe("inter_token_latency_seconds", (now - progress.last) / new, new)
        progress.tokens, progress.last = tokens, now

    def _finish(self, end: ChoiceFinished, now: float) -> None:
        progress = self._progress[end.choice]
        self._failed |= is_failure(end)
        self._metrics.finish(self._model, ENDS.get(end.reason, end.reason))
        self._observe("e2e_request_latency_seconds", now - self._start)
        self._observe("request_prompt_tokens", len(self._generation.prompts[end.choice // self._per_prompt]))
        self._observe("request_generation_tokens", progress.tokens)
        if progress.tokens > 1:
            mean = (progress.last - progress.first) / (progress.tokens - 1)
            self._observe("request_time_per_output_token_seconds", mean)

    def _observe(self, name: str, value: float, times: int = 1) -> None:
        self._metrics.observe(self._model, name, value, times)


def head(name: str, kind: str, text: str) -> Iterable[str]:
    """What comes before the samples of one metric."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def escape(value: str) -> str:
    """A label's value."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _engine_lines(models: Sequence[ServedModel]) -> Iterable[str]:
    name = f"{PREFIX}model_info"
    yield from head(name, "gauge", "1 for every engine: which version goes by which name.")
    for model in models:
        yield f'{name}{{{_label(model.name)},version="{escape(model.version)}"}} 1'
    snapshots = [(model.name, model.engine.stats()) for model in models]
    for name, (kind, text, read) in ENGINE.items():
        yield from head(PREFIX + name, kind, text)
        for model, stats in snapshots:
            yield f"{PREFIX}{name}{{{_label(model)}}} {read(stats):.15g}"
    name = f"{PREFIX}engine_part_seconds_total"
    yield from head(name, "counter", "Time in the parts of a step.")
    for model, stats in snapshots:
        for part, seconds in stats.parts.items():
            yield f'{name}{{{_label(model)},part="{escape(part)}"}} {max(seconds, 0.0):.15g}'


ENGINE: dict[str, tuple[str, str, Callable[[EngineStats], float]]] = {
    "num_requests_running": ("gauge", "Requests in the running batch.", lambda stats: stats.running),
    "num_requests_waiting": ("gauge", "Requests that wait to join it.", lambda stats: stats.waiting),
    "kv_cache_usage_perc": (
        "gauge",
        "Share of the KV blocks in use; 1 is all of them.",
        lambda stats: stats.kv_used / stats.kv_total if stats.kv_total else 0.0,
    ),
    "prompt_tokens_total": ("counter", "Tokens of prompts.", lambda stats: stats.prompt_tokens),
    "generation_tokens_total": ("counter", "Tokens generated.", lambda stats: stats.generated_tokens),
    "prefix_cache_queries_total": (
        "counter",
        "Tokens of prompts that were looked up in the prefix cache.",
        lambda stats: stats.prompt_tokens,
    ),
    "prefix_cache_hits_total": ("counter", "Tokens of prompts found there.", lambda stats: stats.cached_tokens),
    "num_preemptions_total": ("counter", "Times a request gave its memory up.", lambda stats: stats.preemptions),
    "spec_decode_num_drafts_total": ("counter", "Steps of a request with guesses.", lambda stats: stats.drafts),
    "spec_decode_num_draft_tokens_total": ("counter", "Tokens guessed.", lambda stats: stats.draft_tokens),
    "spec_decode_num_accepted_tokens_total": ("counter", "Tokens guessed right.", lambda stats: stats.accepted_tokens),
    "grammar_requests_total": (
        "counter",
        "Requests whose answer has to keep to a grammar.",
        lambda stats: stats.grammar_requests,
    ),
    "grammar_compile_seconds_total": (
        "counter",
        "Time to compile grammars.",
        lambda stats: stats.grammar_compile_seconds,
    ),
    "grammar_mask_seconds_total": (
        "counter",
        "Time to find out which tokens they allow.",
        lambda stats: stats.parts.get("grammar masks", 0.0),
    ),
    "engine_steps_total": ("counter", "Steps of the engine.", lambda stats: stats.steps),
    "engine_step_seconds_total": ("counter", "Time in them.", lambda stats: stats.step_seconds),
}
"""Read from the engine at every scrape: kind, help and where it comes from."""


def _label(model: str) -> str:
    return f'model_name="{escape(model)}"'
