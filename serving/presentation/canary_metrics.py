"""What is known of a version on trial and of the one in place, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from serving.application.canary import DIFFERENT, FAILED, SAME, SKIPPED, Canary
from serving.application.ports import ServedModel
from serving.presentation.metrics import PREFIX, escape, head

WINDOW = {
    "requests": "Requests of a version in the window of the trials.",
    "failures": "Those of them that failed.",
    "first_token_seconds": "Median time to the first token in the window.",
    "token_gap_seconds": "Median gap between tokens in the window.",
}


def canary_lines(canary: Canary, models: Sequence[ServedModel]) -> Iterable[str]:
    """Gauges of every version that is served, and counters of shadows and of versions taken back."""
    trial = canary.trial
    yield from head(f"{PREFIX}canary_share", "gauge", "Share of requests that the version on trial answers; 0 without one.")
    yield f"{PREFIX}canary_share {canary.rules.canary_percent / 100 if trial else 0:g}"
    samples = {model.version: canary.windows.sample(model.version) for model in models}
    roles = {version: "candidate" if trial and version == trial.candidate.version else "served" for version in samples}
    for name, text in WINDOW.items():
        yield from head(f"{PREFIX}canary_window_{name}", "gauge", text)
        for version, sample in samples.items():
            value = {
                "requests": sample.requests,
                "failures": sample.failures,
                "first_token_seconds": sample.first_token,
                "token_gap_seconds": sample.per_token,
            }[name]
            labels = f'version="{escape(version)}",role="{roles[version]}"'
            yield f"{PREFIX}canary_window_{name}{{{labels}}} {'NaN' if value is None else format(value, 'g')}"
    yield from head(f"{PREFIX}canary_shadows_total", "counter", "Answers nobody saw, by how they compare with those given.")
    for result in (SAME, DIFFERENT, FAILED, SKIPPED):
        yield f'{PREFIX}canary_shadows_total{{result="{result}"}} {canary.shadows[result]}'
    yield from head(f"{PREFIX}canary_rollbacks_total", "counter", "Versions taken back, by what they had been.")
    for role in sorted({"candidate", "production", *canary.rollbacks}):
        yield f'{PREFIX}canary_rollbacks_total{{role="{role}"}} {canary.rollbacks[role]}'
