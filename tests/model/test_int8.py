"""Int8 linears compute what their formula says, whoever multiplies."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lifecycle.model.int8 import Int8Linear, multiply, multiply_anywhere, quantise_rows


def linear(inputs: int = 40, outputs: int = 24, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_is_its_formula(dtype, bias):
    exact = linear(bias=bias)
    x = torch.randn(2, 3, 40).to(dtype)
    expected = torch.zeros(2, 3, 24)
    for b in range(2):
        for t in range(3):
            token = x[b, t].float()
            step = token.abs().max() / 127
            for o, row in enumerate(exact.weight.detach()):
                unit = row.abs().max() / 127
                dot = sum(int(a) * int(w) for a, w in zip((token / step).round(), (row / unit).round(), strict=True))
                expected[b, t, o] = torch.tensor(float(dot)) * step * unit
    if bias:
        expected += exact.bias.detach()
    assert torch.equal(Int8Linear.of(exact)(x), expected.to(dtype))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 72, 100), (5, 33, 7), (40, 512, 64)])
def test_both_ways_to_multiply_are_exact(rows, inputs, outputs):
    a, w = (torch.randint(-127, 128, shape, dtype=torch.int8) for shape in ((rows, inputs), (outputs, inputs)))
    exact = a.to(torch.int64) @ w.to(torch.int64).t()
    assert torch.equal(multiply(a, w).to(torch.int64), exact)
    assert torch.equal(multiply_anywhere(a, w).to(torch.int64), exact)


def test_zeros_stay_zeros():
    values, scales = quantise_rows(torch.zeros(2, 4))
    assert not values.any() and torch.equal(scales, torch.ones(2, 1))


def test_a_token_that_is_no_number_stays_none_and_spoils_no_other():
    x = torch.randn(3, 40)
    x[1, 5] = torch.nan
    y = Int8Linear.of(linear())(x)
    assert y[[0, 2]].isfinite().all() and not y[1].isfinite().any()


def test_new_weights_in_floating_point_are_rounded_as_they_are_loaded():
    first, second = linear(), linear()
    with torch.no_grad():
        second.weight.mul_(-3)
    rounded, x = Int8Linear.of(first), torch.randn(4, 40)
    rounded.load_state_dict(second.state_dict())
    assert torch.equal(rounded(x), Int8Linear.of(second)(x))
