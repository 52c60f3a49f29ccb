"""Counters and histograms in Prometheus' text format, named after vLLM's so that its dashboards need one rename."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence

from serving.application.deltas import ChoiceFinished, Delta
from serving.application.generation import Generation
from serving.application.ports import ServedModel

PREFIX = "serving:"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
TOKEN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Histogram:
    """Cumulative buckets of seconds. Not locked: `Metrics` does that."""

    def __init__(self, buckets: Sequence[float]) -> None:
        self.buckets = tuple(buckets)
        self.counts = [0] * (len(self.buckets) + 1)
        self.total = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count `times` observations of the same length."""
        self.counts[bisect_left(self.buckets, seconds)] += times
        self.total += seconds * times

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
        self.histograms = {
            "time_to_first_token_seconds": Histogram(LATENCY_BUCKETS),
            "inter_token_latency_seconds": Histogram(TOKEN_BUCKETS),
            "e2e_request_latency_seconds": Histogram(LATENCY_BUCKETS),
        }
        self.finished: Counter[str] = Counter({"stop": 0, "length": 0})


class Metrics:
    """All models' metrics. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, ModelMetrics] = {}

    def meter(self, generation: Generation) -> Meter:
        """Follows one request."""
        return Meter(self, generation)

    def observe(self, model: str, name: str, seconds: float, times: int = 1) -> None:
        """Add to a histogram."""
        with self._lock:
            self._models.setdefault(model, ModelMetrics()).histograms[name].observe(seconds, times)

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
        yield f"# TYPE {name} counter"
        for model, metrics in self._models.items():
            for reason, count in metrics.finished.items():
                yield f'{name}{{{_label(model)},finished_reason="{reason}"}} {count}'
        for kind in ModelMetrics().histograms:
            yield f"# TYPE {PREFIX}{kind} histogram"
            for model, metrics in self._models.items():
                yield from metrics.histograms[kind].lines(PREFIX + kind, _label(model))


class Meter:
    """Times one request: first token, the steps between tokens, the end."""

    def __init__(self, metrics: Metrics, generation: Generation) -> None:
        self._metrics = metrics
        self._generation = generation
        self._model = generation.model.name
        self._start = self._last = time.monotonic()
        self._tokens = 0

    def observe(self, deltas: Sequence[Delta]) -> None:
        """After every update."""
        now = time.monotonic()
        tokens = sum(choice.completion_tokens for choice in self._generation.choices)
        if tokens > self._tokens:
            if self._tokens == 0:
                self._metrics.observe(self._model, "time_to_first_token_seconds", now - self._start)
            else:
                new = tokens - self._tokens
                self._metrics.observe(self._model, "inter_token_latency_seconds", (now - self._last) / new, new)
            self._tokens, self._last = tokens, now
        for delta in deltas:
            if isinstance(delta, ChoiceFinished):
                self._metrics.finish(self._model, delta.reason)
                self._metrics.observe(self._model, "e2e_request_latency_seconds", now - self._start)

    def abort(self) -> None:
        """The client left."""
        for choice in self._generation.choices:
            if not choice.finished:
                self._metrics.finish(self._model, "abort")


def _engine_lines(models: Sequence[ServedModel]) -> Iterable[str]:
    snapshots = [(model.name, model.engine.stats()) for model in models]
    gauges = {
        "num_requests_running": lambda stats: stats.running,
        "num_requests_waiting": lambda stats: stats.waiting,
        "kv_cache_usage_perc": lambda stats: stats.kv_used / stats.kv_total if stats.kv_total else 0.0,
    }
    counters = {
        "prompt_tokens_total": lambda stats: stats.prompt_tokens,
        "generation_tokens_total": lambda stats: stats.generated_tokens,
        "prefix_cache_hits_total": lambda stats: stats.cached_tokens,
        "num_preemptions_total": lambda stats: stats.preemptions,
        "spec_decode_num_drafts_total": lambda stats: stats.drafts,
        "spec_decode_num_draft_tokens_total": lambda stats: stats.draft_tokens,
        "spec_decode_num_accepted_tokens_total": lambda stats: stats.accepted_tokens,
        "grammar_requests_total": lambda stats: stats.grammar_requests,
        "grammar_compile_seconds_total": lambda stats: stats.grammar_compile_seconds,
        "grammar_mask_seconds_total": lambda stats: stats.parts.get("grammar masks", 0.0),
        "engine_steps_total": lambda stats: stats.steps,
        "engine_step_seconds_total": lambda stats: stats.step_seconds,
    }
    for kind, samples in (("gauge", gauges), ("counter", counters)):
        for name, read in samples.items():
            yield f"# TYPE {PREFIX}{name} {kind}"
            for model, stats in snapshots:
                yield f"{PREFIX}{name}{{{_label(model)}}} {read(stats):.15g}"
    yield f"# TYPE {PREFIX}engine_part_seconds_total counter"
    for model, stats in snapshots:
        for part, seconds in stats.parts.items():
            yield f'{PREFIX}engine_part_seconds_total{{{_label(model)},part="{part}"}} {max(seconds, 0.0):.15g}'


def _label(model: str) -> str:
    escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'model_name="{escaped}"'
