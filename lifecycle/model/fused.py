"""The decoder's arithmetic with gradients written by hand: what autograd would find, in fewer passes over memory.

On a CPU a matrix product in bf16 is so fast that a step of training goes by in everything between the products, and in fp32
much of it does: each small operation reads and writes all activations, and autograd multiplies their number. The functions
here join what belongs together and save only what the gradient needs. Each is its textbook formula, and its test compares it
with that formula left to autograd. On a CPU what stands between the products is one function of kernels.cpp each, if there
is a compiler.

Shapes: N tokens, E = hidden_size, V = vocab_size, B rows, T positions, D = head width. A leading [N] may be [B, T].
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from lifecycle.model import kernels

IGNORE = -100
"""Target of a position that the loss leaves out: someone else's words."""

LOSS_ROWS = 128
"""Positions whose softmax is computed at a time: so few that it stays in a CPU's cache."""


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def project(x: Tensor, *weights: Tensor) -> Tensor:
    """Several bias-free linear layers of one input as one product: x [N, E] and weights [outputs, E] to [N, all outputs]."""
    return _Project.apply(x, *weights)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, *weights: Tensor) -> Tensor:
        joined = torch.cat([weight.to(x.dtype) for weight in weights])
        ctx.save_for_backward(x, joined)
        ctx.sizes, ctx.dtype = [len(weight) for weight in weights], weights[0].dtype
        return F.linear(x, joined)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, joined = ctx.saved_tensors
        by_weight = gradient.flatten(0, -2).t() @ x.flatten(0, -2)
        return gradient @ joined, *by_weight.to(ctx.dtype).split(ctx.sizes)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension: x [..., E], weight [E]."""
    return _RMSNorm.apply(x, weight, eps)


class _RMSNorm(torch.autograd.Function):
    """With s = 1 / sqrt(mean(x^2) + eps) and g = dy * weight: dx = s * g - x * s^3 * mean(g * x), dweight = sum(dy * x * s)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if kernels.can_run(x):
            x, y, scale = x.contiguous(), torch.empty_like(x), x.new_empty(x.shape[:-1] + (1,), dtype=torch.float32)
            kernels.run("rms_norm", x, weight.float(), y, scale, scale.numel(), x.shape[-1], eps)
            ctx.save_for_backward(x, weight, scale)
            return y
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x.dtype))  # squares of bf16 lose much
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # [..., 1]
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight.to(x.dtype))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        if kernels.can_run(x, gradient):
            by_x, n, width = torch.empty_like(x), scale.numel(), x.shape[-1]
            by_weight = scale.new_zeros(torch.get_num_threads(), width)
            kernels.run("rms_norm_backward", gradient.contiguous(), x, weight.float(), scale, by_x, by_weight, n, width)
            return by_x, by_weight.sum(0).to(weight.dtype), None
        w, s = weight.to(x.dtype), scale.to(x.dtype)
        products = (gradient * x).flatten(0, -2)  # [N, E]
        by_weight = (s.view(1, -1) @ products)[0]
        means = (products @ w[:, None]).view(scale.shape) / x.shape[-1]
        by_x = (gradient * w).mul_(s).addcmul_(x, (means * scale**3).to(x.dtype), value=-1)
        return by_x, by_weight.to(weight.dtype), None


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + D / 2]) by its position's angle: x [..., T, heads, D], cos and sin [T, 1, D / 2]."""
    return _Rotate.apply(x, cos, sin)


class _Rotate(torch.autograd.Function):
    """A rotation's gradient is turned back by the same angle."""

    @staticmethod
    def forward(ctx, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, sin, -1.0), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    if kernels.can_run(x, cos, sin):
        return _turn_by_kernel(x, cos, sin, direction)
    sin = direction * sin
    a, b = x.chunk(2, dim=-1)
    swapped = torch.cat((b, a), dim=-1)
    return (x * torch.cat((cos, cos), dim=-1)).addcmul_(swapped, torch.cat((-sin, sin), dim=-1))


def _turn_by_kernel(x: Tensor, cos: Tensor, sin: Tensor, direction: float) -> Tensor:
    heads, D = x.shape[-2:]
    x = x.contiguous()
    y = torch.empty_like(x)
    kernels.run("rotate", x, cos, sin, y, x.numel() // (heads * D), heads, D // 2, len(cos), direction)
    return y


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU, (silu(x gate') * (x up')) down': x [N, E], gate and up [width, E], down [E, width]."""
    return _FeedForward.apply(x, gate, up, down)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, *weights: Tensor) -> Tensor:
        gate, up, down = (weight.to(x.dtype) for weight in weights)
        before, other = F.linear(x, gate), F.linear(x, up)  # [N, width] each
        inner = _gated(before, other)
        ctx.save_for_backward(x, gate, up, down, before, other, inner)
        ctx.dtype = weights[0].dtype
        return F.linear(inner, down)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, gate, up, down, before, other, inner = (saved.flatten(0, -2) for saved in ctx.saved_tensors)
        shape, gradient = gradient.shape, gradient.flatten(0, -2)
        by_inner = gradient @ down  # [N, width]
        by_before, by_other = _gated_backward(by_inner, before, other)
        by_x = torch.addmm(by_before @ gate, by_other, up).view(shape)
        by_weights = by_before.t() @ x, by_other.t() @ x, gradient.t() @ inner
        return by_x, *(by_weight.to(ctx.dtype) for by_weight in by_weights)


def _gated(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) * up, [N, width]."""
    if not kernels.can_run(gate):
        return F.silu(gate) * up
    result = torch.empty_like(gate)
    kernels.run("swiglu", gate, up, result, gate.numel() // gate.shape[-1], gate.shape[-1])
    return result


def _gated_backward(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """With silu(x) = x * sigmoid(x): silu' = sigmoid * (1 + x * (1 - sigmoid))."""
    if not kernels.can_run(gate):
        return torch.ops.aten.silu_backward(gradient * up, gate), gradient * F.silu(gate)
    by_gate, by_up = torch.empty_like(gate), torch.empty_like(up)
    kernels.run("swiglu_backward", gradient, gate, up, by_gate, by_up, *gate.shape)
    return by_gate, by_up


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(D) + mask) v, each position attending to itself and those before it.

    q [batches, G * T, D], k and v [batches, T, D] to [batches, G * T, D]: G queries share a key, one below the other.
    """
    return _CausalAttention.apply(q, k, v)


class _CausalAttention(torch.autograd.Function):
    """With scores S, P = softmax(S) and O = P v: dv = P' dO, dP = dO v', dS = P * (dP - sum(P * dP)), dq = dS k, dk = dS' q."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        p = _causal_softmax(q @ k.mT, q.shape[-1] ** -0.5)  # [batches, G * T, T]
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, p = ctx.saved_tensors
        by_v = p.mT @ gradient
        by_scores = _causal_softmax_backward(gradient @ v.mT, p, q.shape[-1] ** -0.5)
        return by_scores @ k, by_scores.mT @ q, by_v


def _causal_softmax(scores: Tensor, factor: float) -> Tensor:
    """softmax(factor * scores + mask) over the last dimension."""
    batches, rows, T = scores.shape
    if not kernels.can_run(scores):
        return scores.mul_(factor).add_(_mask(rows, T, scores.dtype, scores.device)).softmax(dim=-1)
    kernels.run("causal_softmax", scores, batches * rows, T, factor)
    return scores


def _causal_softmax_backward(gradient: Tensor, p: Tensor, factor: float) -> Tensor:
    batches, rows, T = p.shape
    if not kernels.can_run(p):
        return torch.ops.aten._softmax_backward_data(gradient, p, -1, p.dtype).mul_(factor)
    kernels.run("causal_softmax_backward", gradient, p, batches * rows, T, factor)
    return gradient


@lru_cache(maxsize=32)
def _mask(rows: int, T: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[rows, T], -inf where a query may not look: row r is the query at position r modulo T."""
    return torch.full((T, T), float("-inf"), dtype=dtype, device=device).triu(1).repeat(rows // T, 1)


def cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The output layer and its loss: nats summed over the targets that are not `IGNORE`, and how many of them are right.

    hidden [N, E], weight [V, E], targets [N] int64; both results are scalars in fp32. Right is a target than which no
    token has a larger logit. All logits at once would be by far the largest tensor of a step, so they are computed a few
    rows at a time and their gradient is followed at once, while they are at hand.
    """
    return _CrossEntropy.apply(hidden, weight, targets, torch.is_grad_enabled())


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
        w = weight.to(hidden.dtype)
        logits = F.linear(hidden, w)  # [N, V]
        nats, hits = (_nats_by_kernel if kernels.can_run(logits) else _nats)(logits, targets, learn)
        if learn:  # now they are their own gradient
            ctx.save_for_backward(logits @ w, (logits.t() @ hidden).to(weight.dtype))
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        return by_hidden * gradient.to(by_hidden.dtype), by_weight * gradient, None, None


def _nats(logits: Tensor, targets: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
    """With s = sum(exp(logits)): nats = ln(s) - logit of the target, and their gradient exp(logits) / s, less 1 at the target.

    Where `learn` is set the gradient replaces the logits.
    """
    counted, index = (targets != IGNORE)[:, None], targets.clamp(min=0)[:, None]
    nats, hits = logits.new_zeros((), dtype=_wide(logits.dtype)), counted.new_zeros((), dtype=torch.int64)
    for rows, counts, target in zip(*(x.split(LOSS_ROWS) for x in (logits, counted, index)), strict=True):
        p = rows.to(_wide(rows.dtype), copy=True)  # [LOSS_ROWS, V]
        largest, wanted = p.amax(dim=1, keepdim=True), p.gather(1, target)  # [LOSS_ROWS, 1] each
        total = p.sub_(largest).exp_().sum(dim=1, keepdim=True)
        nats += (largest + total.log() - wanted)[counts].sum()
        hits += (wanted >= largest)[counts].sum()
        if learn:
            rows.copy_(p.div_(total).scatter_add_(1, target, -torch.ones_like(total)).mul_(counts))
    return nats, hits


def _nats_by_kernel(logits: Tensor, targets: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
    nats, hits = logits.new_empty(len(logits), dtype=torch.float32), torch.empty_like(targets)
    kernels.run("cross_entropy", logits, targets.contiguous(), nats, hits, *logits.shape, int(learn))
    return nats.sum(), hits.sum()
