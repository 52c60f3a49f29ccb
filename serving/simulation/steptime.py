"""The four numbers of a step's time (`lifecycle.planning.steptime`), fitted to what a recording measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lifecycle.errors import LifecycleError
from lifecycle.planning.steptime import StepTimeModel
from serving.application.recording import Recording, StepRecord

MIN_STEPS = 8


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted model and how well it describes what it was fitted to."""

    model: StepTimeModel
    steps: int
    total_error: float
    """(predicted - measured) / measured, over all steps together."""
    median_error: float
    """Median over the steps of |predicted - measured| / measured."""


def fit(recording: Recording) -> Fit:
    """Least squares over the steps of a recording, each weighted by 1/t, so that errors count relative to the step.

    No coefficient gets negative: the most negative one is left out and the rest is fitted again. Raises LifecycleError
    when there are too few steps.
    """
    if len(recording.steps) < MIN_STEPS:
        raise LifecycleError(
            f"the recording has {len(recording.steps)} steps, and fitting step times takes at least {MIN_STEPS}: "
            "record more requests, or one token a step: --set multi_step_seconds=0"
        )
    passes = np.array([step.passes for step in recording.steps])
    seconds = np.array(list(periods(recording.steps))) / passes
    features = np.array([_features(step) for step in recording.steps], dtype=float)
    weights = 1 / np.maximum(seconds, 1e-6)
    coefficients = _non_negative(features * weights[:, None], seconds * weights)
    predicted = features @ coefficients
    # 1/t weights favour the short side of a skewed noise; what matters most is that totals are right.
    scale = seconds.sum() / predicted.sum()
    model = StepTimeModel(*(float(value) for value in coefficients * scale))
    errors = np.abs(predicted * scale - seconds) * weights
    return Fit(model, len(seconds), float(predicted.sum() * scale / seconds.sum() - 1), float(np.median(errors)))


def periods(steps: Sequence[StepRecord]) -> Iterable[float]:
    """Seconds from each step's beginning to the next one's while there is work, so that the gap between counts, too."""
    for step, following in zip(steps, steps[1:], strict=False):
        busy = step.running + step.waiting > 0
        yield following.start - step.start if busy else step.duration
    yield from (step.duration for step in steps[-1:])


def _features(step: StepRecord) -> tuple[float, ...]:
    """Of one pass, the last."""
    tokens = sum(item.tokens for item in step.work) / step.passes
    return 1, tokens, sum(item.start + item.tokens for item in step.work), len(step.work)


def _non_negative(features: np.ndarray, target: np.ndarray) -> np.ndarray:
    used = list(range(features.shape[1]))
    while True:
        # Columns of one unit size: kv_read is in the thousands where the first column is 1.
        size = np.linalg.norm(features[:, used], axis=0)
        size[size == 0] = 1
        solved = np.linalg.lstsq(features[:, used] / size, target, rcond=1e-10)[0] / size
        if (solved >= 0).all():
            break
        del used[int(np.argmin(solved * size))]
    coefficients = np.zeros(features.shape[1])
    coefficients[used] = solved
    return coefficients
