"""Quantiles, goodput and fairness by their definitions."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.bench.metrics import METRICS, Histogram, Latencies, Samples, jain, table

VALUES = st.lists(st.floats(1e-6, 1e4), min_size=1, max_size=200)


@given(VALUES, st.floats(0.001, 1.0))
def test_a_quantile_is_the_smallest_value_that_so_many_do_not_exceed(values, q):
    exact, rough = Samples(values).quantile(q), Histogram()
    for value in values:
        rough.add(value)
    assert sum(value <= exact for value in values) >= q * len(values)
    assert sum(value < exact for value in values) < q * len(values)
    assert rough.quantile(q) == pytest.approx(exact, rel=0.005)
    assert rough.mean == pytest.approx(Samples(values).mean)


def test_counts_weigh():
    histogram = Histogram()
    histogram.add(1.0, 99)
    histogram.add(100.0)
    assert histogram.quantile(0.99) == pytest.approx(1.0, rel=0.005)
    assert histogram.quantile(1.0) == pytest.approx(100.0, rel=0.005)
    histogram.add(0.0)
    assert histogram.quantile(0.001) == 0.0


def test_one_request_by_hand():
    found = Latencies({"ttft": 0.5, "tpot": 0.1})
    found.finished(arrival=1.0, first_token=1.4, last_token=2.0, prompt_tokens=7, output_tokens=4)
    found.finished(arrival=1.0, first_token=1.6, last_token=1.6, prompt_tokens=3, output_tokens=1)
    figures = found.figures((50, 100))
    assert figures["mean_ttft_ms"] == 500.0 and figures["p50_ttft_ms"] == 400.0 and figures["p100_ttft_ms"] == 600.0
    assert figures["mean_tpot_ms"] == 200.0  # of the first alone: one token has no gap
    assert (figures["duration"], figures["request_throughput"], figures["output_throughput"]) == (1.0, 2.0, 5.0)
    assert figures["request_goodput"] == 0.0  # the first is too slow after, the second before its first token
    assert figures["mean_itl_ms"] is None
    json.dumps(figures, allow_nan=False)
    assert table(figures, (50, 100), METRICS).splitlines()[3].split() == ["ITL", "-", "-", "-"]


def test_nothing_has_no_figures_but_is_no_error():
    figures = Latencies().figures()
    assert figures["completed"] == 0 and figures["p99_ttft_ms"] is None
    assert math.isnan(Samples().quantile(0.5)) and math.isnan(Histogram().quantile(0.5))


def test_jain():
    assert jain([5, 5, 5]) == jain([]) == 1.0
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
    assert jain([10, 1]) == pytest.approx(121 / 202)
