"""A recording as a picture: who computed when, what each step held, the KV memory, and where each request's time went."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.application.recording import Recording, RequestRecord, StepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PREFILL, DECODE, QUEUED, CACHED, INK = "#f28e2b", "#4e79a7", "#d3d3d3", "#a9cce3", "#333333"
MANY_STEPS = 400
"""Beyond so many steps neighbouring decodes of a request are drawn as one bar."""
MANY_LANES = 40
MANY_REQUESTS = 80
"""Beyond so many requests bars have no numbers."""


@dataclass(slots=True)
class Bar:
    """A stretch of time in which a request computed. Seconds since the recording's first request."""

    lane: int
    request: int
    kind: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Where the time of an answered request went, in seconds; together its end-to-end latency."""

    queue: float
    prefill: float
    decode: float


def breakdown(request: RequestRecord) -> Breakdown | None:
    """None for a request that never got to its first token, or has not ended."""
    if request.started is None or request.first_token is None or request.finished is None:
        return None
    return Breakdown(
        request.started - request.arrival, request.first_token - request.started, request.finished - request.first_token
    )


def lanes(recording: Recording) -> list[Bar]:
    """One lane per running sequence: a request keeps the lowest lane that was free when it began, until it ends.

    Steps that follow each other without another in between are joined when there are more than MANY_STEPS of them.
    """
    origin = beginning(recording)
    last_step = {item.request: number for number, step in enumerate(recording.steps) for item in step.work}
    free: list[int] = []
    fresh = itertools.count()
    lane_of: dict[int, int] = {}
    open_bars: dict[int, tuple[Bar, int]] = {}
    bars: list[Bar] = []
    join = len(recording.steps) > MANY_STEPS
    for number, step in enumerate(recording.steps):
        start, end = step.start - origin, step.end - origin
        for item in step.work:
            lane = lane_of.get(item.request)
            if lane is None:
                lane = lane_of[item.request] = heapq.heappop(free) if free else next(fresh)
            bar, seen = open_bars.get(item.request, (None, -2))
            if join and bar is not None and seen == number - 1 and bar.kind == item.kind:
                bar.end = end
            else:
                bar = Bar(lane, item.request, item.kind, start, end)
                bars.append(bar)
            open_bars[item.request] = (bar, number)
        for item in step.work:
            if last_step[item.request] == number:
                heapq.heappush(free, lane_of[item.request])
                del open_bars[item.request]
    return bars


def beginning(recording: Recording) -> float:
    """The moment that pictures count from: the first request, or the first step if that is not known."""
    moments = [request.arrival for request in recording.requests[:1]] + [step.start for step in recording.steps[:1]]
    return min(moments, default=0.0)


def draw(
    recording: Recording, *, start: float | None = None, stop: float | None = None, title: str | None = None
) -> Figure:
    """Four panels; `start` and `stop` (seconds since the first request) choose what the first three show."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 10.5), layout="constrained")
    top, middle, memory, parts = figure.subplots(4, 1, height_ratios=(4, 1.4, 1.4, 2.2))
    for axes in (top, middle):
        axes.sharex(memory)
        axes.tick_params(labelbottom=False)
    steps, origin = recording.steps, beginning(recording)
    _draw_lanes(top, recording)
    _draw_tokens(middle, steps, origin)
    _draw_memory(memory, recording, origin)
    _draw_parts(parts, recording.requests)
    end = max((step.end - origin for step in steps), default=1.0)
    memory.set_xlim(start or 0.0, min(end, stop) if stop is not None else end)
    for axes in (top, middle, memory, parts):
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(y=0)
    figure.suptitle(title or _title(recording), fontsize=13, x=0.01, ha="left")
    return figure


def _title(recording: Recording) -> str:
    model = recording.header.get("model") or "an engine"
    policy = recording.header.get("scheduler", {}).get("policy", "unknown policy")
    return f"{model}, {policy}: {len(recording.requests)} requests in {len(recording.steps)} steps"


def _draw_lanes(axes: Axes, recording: Recording) -> None:
    from matplotlib.patches import Patch

    bars = lanes(recording)
    count = max((bar.lane for bar in bars), default=0) + 1
    edge = 0.4 if len(recording.steps) <= MANY_STEPS else 0.0
    for lane in range(count):
        own = [bar for bar in bars if bar.lane == lane]
        axes.broken_barh(
            [(bar.start, bar.end - bar.start) for bar in own],
            (lane + 0.06, 0.88),
            facecolors=[PREFILL if bar.kind == "prefill" else DECODE for bar in own],
            edgecolors="white",
            linewidth=edge,
        )
    first = {bar.request: bar for bar in reversed(bars)}
    for bar in first.values():
        axes.vlines(bar.start, bar.lane + 0.06, bar.lane + 0.94, color=INK, linewidth=0.9)
    if len(recording.requests) <= MANY_REQUESTS:
        for bar in first.values():
            axes.text(bar.start, bar.lane + 0.5, f" {bar.request}", va="center", fontsize=6.5, color=INK, clip_on=True)
    axes.set_ylim(count, 0)
    shown = range(count) if count <= MANY_LANES else ()
    axes.set_yticks([lane + 0.5 for lane in shown], [str(lane) for lane in shown])
    axes.tick_params(axis="y", length=0)
    axes.set_ylabel("place in the batch")
    legend = [Patch(color=PREFILL, label="prefill"), Patch(color=DECODE, label="decode")]
    axes.legend(handles=legend, loc="lower right", ncols=2, bbox_to_anchor=(1, 1), frameon=False)


def _draw_tokens(axes: Axes, steps: Sequence[StepRecord], origin: float) -> None:
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    begins = [step.start - origin for step in steps]
    widths = [step.duration for step in steps]
    decode = [sum(item.tokens for item in step.work if item.kind == "decode") for step in steps]
    prefill = [sum(item.tokens for item in step.work if item.kind == "prefill") for step in steps]
    axes.bar(begins, decode, widths, align="edge", color=DECODE)
    axes.bar(begins, prefill, widths, bottom=decode, align="edge", color=PREFILL)
    # One prompt has hundreds of times as many tokens as a decode: a root shows both, and zero, too.
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("tokens in the step\n(root scale)")


def _draw_memory(axes: Axes, recording: Recording, origin: float) -> None:
    from matplotlib.ticker import MaxNLocator

    steps = recording.steps
    # What a report says held during its step: blocks are taken before and given back after it.
    edges = [step.start - origin for step in steps[:1]] + [step.end - origin for step in steps]
    used, cached, waiting = (
        [getattr(step, name) for step in (*steps[:1], *steps)] for name in ("kv_used", "kv_cached", "waiting")
    )
    axes.stackplot(edges, used, cached, colors=(DECODE, CACHED), labels=("used", "cached"), step="pre")
    total = recording.header.get("scheduler", {}).get("num_blocks")
    if total and max((step.kv_used + step.kv_cached for step in steps), default=0) > total / 2:
        axes.axhline(total, color=INK, linewidth=0.8, linestyle="dashed")
        axes.set_ylim(0, total * 1.05)
    axes.set_ylabel("KV blocks")
    queue = axes.twinx()
    queue.step(edges, waiting, color=INK, linewidth=1, where="pre", label="waiting")
    queue.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    queue.set_ylabel("requests waiting")
    queue.set_ylim(bottom=0)
    queue.spines["top"].set_visible(False)
    handles = [*axes.get_legend_handles_labels()[0], *queue.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, loc="lower right", ncols=3, bbox_to_anchor=(1, 1), frameon=False)
    axes.set_xlabel("seconds since the first request")


def _draw_parts(axes: Axes, requests: Sequence[RequestRecord]) -> None:
    """One column per answered request, in order of arrival: queue, prefill, decode."""
    found = [(request.number, parts) for request in requests if (parts := breakdown(request)) is not None]
    places = range(len(found))
    bottom = [0.0] * len(found)
    for name, color in (("queue", QUEUED), ("prefill", PREFILL), ("decode", DECODE)):
        heights = [getattr(parts, name) for _, parts in found]
        axes.bar(places, heights, 0.9 if len(found) <= MANY_REQUESTS else 1.0, bottom=bottom, color=color, label=name)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    if len(found) <= MANY_REQUESTS:
        axes.set_xticks(places, [str(number) for number, _ in found], fontsize=7)
    axes.set_xlim(-0.6, max(len(found), 1) - 0.4)
    axes.set_xlabel("request, in order of arrival")
    axes.set_ylabel("seconds")
    axes.legend(loc="lower right", ncols=3, bbox_to_anchor=(1, 1), frameon=False)
