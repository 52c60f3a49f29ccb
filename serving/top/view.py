"""Readings as lines of text, no wider than the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from serving.top.scrape import Interval

BAR = 20
HEADER = ("MODEL", "VERSION", "RUN", "WAIT", "KV", "TOK/S", "REQ/S", "TTFT p50", "p95", "ITL p50", "p95", "ERRORS")
REQUESTS = ("REQUEST", "MODEL", "TENANT", "STATE", "PROMPT", "ANSWER", "AGE")


def render(
    interval: Interval, versions: dict[str, str], ready: str, requests: Sequence[dict[str, Any]], width: int
) -> list[str]:
    """`versions` by model; `requests` as /admin/requests lists them; `ready` is what /readyz says."""
    lines = [f"{ready}, {len(interval.after.models())} engine(s)", "", *table([HEADER, *(_model(interval, versions, name) for name in interval.after.models())])]
    lines += _trial(interval)
    if requests:
        rows = [
            (one["id"], one["model"], one["tenant"], one["state"], one["prompt_tokens"], f"{one['generated_tokens']}/{one['max_tokens']}", f"{one['age']:.1f} s")
            for one in requests
        ]
        lines += ["", *table([REQUESTS, *rows])]
    return [line[:width] for line in lines]


def _model(interval: Interval, versions: dict[str, str], name: str) -> tuple[str, ...]:
    now = interval.after
    used = now.value("kv_cache_usage_perc", model_name=name)
    latencies = [
        _milliseconds(interval.quantile(kind, share, model_name=name))
        for kind in ("time_to_first_token_seconds", "inter_token_latency_seconds")
        for share in (0.5, 0.95)
    ]
    ends = interval.rate("request_success_total", model_name=name)
    return (
        name,
        versions.get(name, ""),
        f"{now.value('num_requests_running', model_name=name):.0f}",
        f"{now.value('num_requests_waiting', model_name=name):.0f}",
        f"{'#' * round(used * BAR):<{BAR}} {used:.0%}",
        _number(interval.rate("generation_tokens_total", model_name=name)),
        _number(ends),
        *latencies,
        f"{interval.grown('request_success_total', model_name=name, finished_reason='error'):.0f}",
    )


def _trial(interval: Interval) -> list[str]:
    """The version on trial beside the others, if there is one."""
    now = interval.after
    candidates = list(now.named("canary_window_requests", role="candidate"))
    if not candidates:
        return []
    rows = [("TRIAL", "ROLE", "REQUESTS", "FAILED", "TTFT median")]
    for one in now.named("canary_window_requests"):
        version = one.labels["version"]
        first = now.value("canary_window_first_token_seconds", version=version)
        failed = now.value("canary_window_failures", version=version)
        rows.append((version, one.labels["role"], f"{one.value:.0f}", f"{failed:.0f}", _milliseconds(first if first == first else None)))
    return ["", f"{now.value('canary_share'):.0%} of the requests go to {candidates[0].labels['version']}", *table(rows)]


def table(rows: Sequence[Sequence[Any]]) -> list[str]:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    return ["  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return "> 2 min" if seconds == float("inf") else f"{1e3 * seconds:.0f} ms"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
