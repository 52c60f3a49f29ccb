"""The decoder's arithmetic with gradients written by hand: what autograd would find, in fewer passes over memory.

On a CPU a matrix product in bf16 is so fast that a step of training goes by in everything between the products: each small
operation reads and writes all activations, and autograd multiplies their number. The functions here join what belongs
together, save only what the gradient needs and compute in fp32 where bf16 would lose digits. Each is its textbook formula,
and its test compares it with that formula left to autograd.

Shapes: N tokens, E = hidden_size, V = vocab_size, B rows, T positions, D = head width. A leading [N] may be [B, T].
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

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
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x.dtype))  # squares of bf16 lose much
        scale = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()  # [..., 1]
        ctx.save_for_backward(x, weight, scale)
        return (x * scale.to(x.dtype)).mul_(weight.to(x.dtype))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
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
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    swapped = torch.cat((b, a), dim=-1)
    return (x * torch.cat((cos, cos), dim=-1)).addcmul_(swapped, torch.cat((-sin, sin), dim=-1))


def feed_forward(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """SwiGLU, (silu(x gate') * (x up')) down': x [N, E], gate and up [width, E], down [E, width]."""
    return _FeedForward.apply(x, gate, up, down)


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, *weights: Tensor) -> Tensor:
        gate, up, down = (weight.to(x.dtype) for weight in weights)
        before, other = F.linear(x, gate), F.linear(x, up)  # [N, width] each
        opened = F.silu(before)
        inner = opened * other
        ctx.save_for_backward(x, gate, up, down, before, other, opened, inner)
        ctx.dtype = weights[0].dtype
        return F.linear(inner, down)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, ...]:
        x, gate, up, down, before, other, opened, inner = (saved.flatten(0, -2) for saved in ctx.saved_tensors)
        shape, gradient = gradient.shape, gradient.flatten(0, -2)
        by_inner = gradient @ down  # [N, width]
        by_other = opened * by_inner
        by_before = torch.ops.aten.silu_backward(by_inner.mul_(other), before)
        by_x = torch.addmm(by_before @ gate, by_other, up).view(shape)
        by_weights = by_before.t() @ x, by_other.t() @ x, gradient.t() @ inner
        return by_x, *(by_weight.to(ctx.dtype) for by_weight in by_weights)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k' / sqrt(D) + mask) v, each position attending to itself and those before it.

    q [batches, G * T, D], k and v [batches, T, D] to [batches, G * T, D]: G queries share a key, one below the other.
    """
    return _CausalAttention.apply(q, k, v)


class _CausalAttention(torch.autograd.Function):
    """With scores S, P = softmax(S) and O = P v: dv = P' dO, dP = dO v', dS = P * (dP - sum(P * dP)), dq = dS k, dk = dS' q."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mask = _mask(q.shape[1], k.shape[1], q.dtype, q.device)
        p = torch.baddbmm(mask, q, k.mT, alpha=q.shape[-1] ** -0.5).softmax(dim=-1)  # [batches, G * T, T]
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, p = ctx.saved_tensors
        by_v = p.mT @ gradient
        by_scores = torch.ops.aten._softmax_backward_data(gradient @ v.mT, p, -1, p.dtype)
        by_q, by_k = (
            torch.baddbmm(q.new_empty(()), scores, other, beta=0, alpha=q.shape[-1] ** -0.5)
            for scores, other in ((by_scores, k), (by_scores.mT, q))
        )
        return by_q, by_k, by_v


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
    """With p = exp(logits - largest) and its sum s: nats = largest + ln(s) - logit of the target, and by logits p / s - 1 there.

    The gradient is kept times s, row by row, and divided where rows are short: in the hidden states.
    """

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor, learn: bool) -> tuple[Tensor, Tensor]:
        w = weight.to(hidden.dtype)
        counted, targets = targets != IGNORE, targets.clamp(min=0)[:, None]
        sums, nats, hits = [], [], []
        by_logits = F.linear(hidden, w)  # [N, V]: logits, which their gradient replaces
        for part, index in zip(by_logits.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
            logits = part.to(_wide(part.dtype), copy=True)  # [LOSS_ROWS, V]
            largest, wanted = logits.amax(dim=1, keepdim=True), logits.gather(1, index)  # [LOSS_ROWS, 1] each
            p = torch.sub(logits, largest, out=logits).exp_()
            total = p.sum(dim=1, keepdim=True)
            sums.append(total)
            nats.append(largest + total.log() - wanted)
            hits.append(wanted >= largest)
            if learn:
                part.copy_(p.scatter_add_(1, index, -total))
        if learn:
            factor = counted[:, None] / torch.cat(sums)  # [N, 1]
            by_hidden = (by_logits @ w * factor).to(hidden.dtype)
            by_weight = by_logits.t() @ (hidden * factor).to(hidden.dtype)
            ctx.save_for_backward(by_hidden, by_weight.to(weight.dtype))
        nats, hits = (torch.cat(parts)[:, 0][counted].sum() for parts in (nats, hits))
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        by_hidden, by_weight = ctx.saved_tensors
        return by_hidden * gradient.to(by_hidden.dtype), by_weight * gradient, None, None
