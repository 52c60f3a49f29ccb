"""The gradients written by hand are those of the textbook formulas, which are written out here and left to autograd."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lifecycle.model import fused, kernels
from lifecycle.model.rows import inverse, pick


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype).requires_grad_()


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt() * weight


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), dim=-1)


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    T, D = k.shape[1:]
    positions = torch.arange(T)
    unseen = positions > positions.repeat(q.shape[1] // T)[:, None]
    return (q @ k.mT / math.sqrt(D)).masked_fill(unseen, -math.inf).softmax(-1) @ v


def turned(x: Tensor, angles: Tensor) -> Tensor:
    return fused.rotate(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))


ANGLES = numbers(5, 1, 3).detach()  # five positions, three pairs
X, TALL, WIDE = numbers(2, 3, 6), numbers(7, 6, seed=1), numbers(6, 7, seed=2)
CASES = {
    "norm": (lambda x, w: fused.rms_norm(x, w, 0.1), rms_norm, (X, numbers(6, seed=3))),
    "rotation": (lambda x: turned(x, ANGLES), lambda x: rotate(x, ANGLES), (numbers(2, 5, 4, 6),)),
    "projections": (fused.project, lambda x, *w: torch.cat([x @ one.T for one in w], -1), (X, TALL, numbers(4, 6, seed=4))),
    "feed-forward": (fused.feed_forward, feed_forward, (X, TALL, numbers(7, 6, seed=5), WIDE)),
    "attention": (fused.causal_attention, attention, (numbers(2, 8, 3), numbers(2, 4, 3, seed=6), numbers(2, 4, 3, seed=7))),
}


@pytest.mark.parametrize(("ours", "formula", "inputs"), CASES.values(), ids=CASES)
def test_value_and_gradient_are_the_formulas(ours, formula, inputs):
    torch.testing.assert_close(ours(*inputs), formula(*inputs))
    assert torch.autograd.gradcheck(ours, inputs)


@pytest.fixture(params=["kernels", "torch"])
def arithmetic(request, monkeypatch):
    """What computes: compiled kernels where they can be had, or torch."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "library", lambda dtype: None)
    elif kernels.library(torch.bfloat16) is None:
        pytest.skip("no C++ compiler")


@pytest.fixture(params=[torch.bfloat16, torch.float32], ids=str)
def stored(request):
    """What tensors hold."""
    return request.param


ROUNDING = {torch.bfloat16: 0.02, torch.float32: 1e-5}
"""Largest error, as a part of what is right."""


@pytest.mark.parametrize(("ours", "formula", "inputs"), CASES.values(), ids=CASES)
def test_both_are_right_up_to_rounding(ours, formula, inputs, arithmetic, stored):
    for tensor in inputs:
        tensor.grad = None
    exact = formula(*inputs)
    exact.square().sum().backward()
    expected = [tensor.grad.clone() for tensor in inputs]
    for tensor in inputs:
        tensor.grad = None
    rounded = [tensor.detach().to(stored).requires_grad_() for tensor in inputs]
    out = ours(*rounded)
    out.square().sum().backward()
    for got, right in zip([out, *(tensor.grad for tensor in rounded)], [exact, *expected], strict=True):
        assert got.dtype == stored
        assert (got.double() - right).norm() < ROUNDING[stored] * right.norm()


@pytest.mark.parametrize("rows", [5, 2 * fused.LOSS_ROWS + 3])
def test_the_loss_is_cross_entropy_and_its_gradient(rows):
    hidden, weight = numbers(rows, 6), numbers(20, 6, seed=1)
    targets = torch.randint(0, 20, (rows,), generator=torch.Generator().manual_seed(2))
    targets[::3] = fused.IGNORE
    logits = hidden @ weight.T
    expected = F.cross_entropy(logits, targets, reduction="sum")
    nats, hits = fused.cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(nats, expected)
    assert hits == (logits.argmax(-1) == targets).sum()
    torch.testing.assert_close(
        torch.autograd.grad(nats / 7, (hidden, weight)), torch.autograd.grad(expected / 7, (hidden, weight))
    )
    with torch.no_grad():
        assert fused.cross_entropy(hidden, weight, targets)[0] == nats


def test_the_loss_is_right_up_to_rounding(arithmetic, stored):
    hidden, weight = numbers(70, 16, dtype=stored), numbers(200, 16, seed=1, dtype=stored)
    targets = torch.randint(0, 200, (70,), generator=torch.Generator().manual_seed(2))
    targets[::3] = fused.IGNORE
    expected = F.cross_entropy(hidden.float() @ weight.float().T, targets, reduction="sum")
    nats, hits = fused.cross_entropy(hidden, weight, targets)
    right = (hidden @ weight.T).gather(1, targets.clamp(min=0)[:, None])[:, 0] >= (hidden @ weight.T).amax(1)
    assert hits == (right & (targets != fused.IGNORE)).sum()
    torch.testing.assert_close(nats, expected, rtol=ROUNDING[stored] / 2, atol=0)
    pairs = zip(*(torch.autograd.grad(loss, (hidden, weight)) for loss in (nats, expected)), strict=True)
    assert all((got - want).norm() < ROUNDING[stored] * want.norm() for got, want in pairs)


@pytest.mark.parametrize("T", [1, 31, 32, 65])
def test_kernels_attend_as_torch_does(T, monkeypatch, stored):
    inputs = [numbers(2, rows, 8, seed=T, dtype=stored) for rows in (2 * T, T, T)]

    def results() -> list[Tensor]:
        out = fused.causal_attention(*inputs)
        return [out, *torch.autograd.grad(out.square().sum(), inputs)]

    fast = results()
    monkeypatch.setattr(kernels, "library", lambda dtype: None)
    error = ROUNDING[stored]
    assert all((one - other).norm() <= error * other.norm() + error for one, other in zip(fast, results(), strict=True))


def test_a_number_that_is_none_stays_visible_in_the_loss(arithmetic, stored):
    hidden, weight = numbers(3, 16, dtype=stored), numbers(40, 16, seed=1, dtype=stored)
    with torch.no_grad():
        hidden[1, 0] = torch.nan
    assert fused.cross_entropy(hidden, weight, torch.tensor([1, 2, 3]))[0].isnan()


def test_without_a_compiler_torch_computes(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert kernels.library.__wrapped__(torch.float32) is None


def test_a_loss_of_nothing_is_zero():
    nats, hits = fused.cross_entropy(numbers(4, 6), numbers(9, 6), torch.full((4,), fused.IGNORE))
    assert nats == 0 and hits == 0
    nats.backward()


def test_a_loss_is_finite_where_probabilities_are_not():
    hidden, weight = torch.tensor([[1e4]]).requires_grad_(), torch.tensor([[1.0], [-1.0]])
    nats, _ = fused.cross_entropy(hidden, weight, torch.tensor([1]))
    nats.backward()
    assert nats == 2e4 and hidden.grad == 2


def test_rows_are_picked_once_each_and_fillers_are_zeros():
    x = numbers(5, 2)
    index = torch.tensor([3, 0, 5, 4, 5])
    back = inverse(index, 5)
    assert back.tolist() == [1, 5, 5, 0, 3]
    picked = pick(x, index, back)
    assert torch.equal(picked, torch.cat((x, torch.zeros(1, 2)))[index])
    assert torch.autograd.gradcheck(lambda x: pick(x, index, back), (x,))
