"""Several engines seen as one: the sum of their figures and of their blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from serving.application.ports import EngineStats
from serving.domain.blocks import BlockMap

NOW = ("waiting", "running", "kv_used", "kv_cached", "kv_total", "replicas")
EVER = (
    "steps", "prompt_tokens", "generated_tokens", "cached_tokens", "preemptions", "step_seconds", "drafts", "draft_tokens",
    "accepted_tokens", "grammar_requests", "grammar_compile_seconds",
)


def combine_stats(live: Sequence[EngineStats], gone: Sequence[EngineStats], uptime: float) -> EngineStats:
    """What runs is that of the `live` ones; what has been counted includes those that are `gone`. At least one is given."""
    every = [*live, *gone]
    finished: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for stats in every:
        finished.update(stats.finished)
        parts.update(stats.parts)
    return replace(
        every[0],
        **{name: sum(getattr(stats, name) for stats in live) for name in NOW},
        **{name: sum(getattr(stats, name) for stats in every) for name in EVER},
        finished=dict(finished),
        parts=dict(parts),
        uptime=uptime,
    )


def combine_maps(maps: Sequence[BlockMap]) -> BlockMap:
    """Blocks are numbered on from one pool to the next."""
    references: list[int] = []
    cached: list[int] = []
    tables: dict[str, tuple[int, ...]] = {}
    for found in maps:
        start = len(references)
        references += found.references
        cached += (start + block for block in found.cached)
        tables |= {name: tuple(start + block for block in table) for name, table in found.tables.items()}
    return BlockMap(tuple(references), tuple(cached), tables)
