"""Muon for the matrices, AdamW for the rest, as one optimizer that every loop and trainer can drive."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lifecycle.hardware import choose_arithmetic

COEFFICIENTS = 3.4445, -4.7750, 2.0315
"""Of the Newton-Schulz iteration (Jordan, 2024): x -> a x + b (x x^T) x + c (x x^T)^2 x."""


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` with `ns_steps=4`, and all matrices of one shape in one batch: many small products are what a CPU is slow at.

    A tall matrix counts as its transpose, so that it shares the batch of the wide ones. `weight_decay` is decoupled; a tall
    matrix's rate is scaled by sqrt(rows / columns), as in the original.
    """

    def __init__(self, matrices: list[Tensor] | list[dict[str, Any]], *, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all matrices that have a gradient; a closure is not supported."""
        for group in self.param_groups:
            batches: dict[tuple[int, ...], list[list[Tensor]]] = {}
            for weights in _by_shape(group["params"]):
                batches.setdefault(tuple(sorted(weights[0].shape)), []).append(weights)
            for same_shapes in batches.values():
                directions = [self._direction(weights, group["momentum"]) for weights in same_shapes]
                for weights, update in zip(same_shapes, orthogonal(*directions), strict=True):
                    self._move(weights, update, group["lr"], group["weight_decay"])

    def _direction(self, weights: list[Tensor], momentum: float) -> Tensor:
        gradients = torch.stack([weight.grad for weight in weights])  # [n, rows, columns]
        state = self.state[weights[0]]
        average = state.setdefault("average", torch.zeros_like(gradients))
        average.lerp_(gradients, 1 - momentum)
        return gradients.lerp_(average, momentum)  # Nesterov

    def _move(self, weights: list[Tensor], update: Tensor, lr: float, weight_decay: float) -> None:
        rows, columns = weights[0].shape
        if weight_decay:
            torch._foreach_mul_(weights, 1 - lr * weight_decay)
        torch._foreach_add_(weights, list(update.to(weights[0].dtype).unbind()), alpha=-lr * max(1.0, rows / columns) ** 0.5)


def _by_shape(weights: list[Tensor]) -> Iterable[list[Tensor]]:
    """Those that have a gradient."""
    found: dict[torch.Size, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            found.setdefault(weight.shape, []).append(weight)
    return found.values()


def orthogonal(*stacks: Tensor, steps: int = 4) -> list[Tensor]:
    """[n, rows, columns] each -> the same with all singular values near 1, by Newton-Schulz iteration, in bf16 where products are faster in it.

    All matrices have the same two sides, some of them swapped. The coefficients make small singular values grow fastest; after four steps all that were more than a two-hundredth of the matrix's length (Frobenius norm) are
    between about 0.65 and 1.15. A fifth would lift smaller ones, which are mostly noise.
    """
    sizes = [len(stack) for stack in stacks]
    x = stacks[0].new_empty(sum(sizes), *sorted(stacks[0].shape[1:]), dtype=choose_arithmetic("auto", stacks[0].device))
    for part, stack in zip(x.split(sizes), stacks, strict=True):
        part.copy_(_wide(stack))
    x /= x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    x = _by_gram(x, steps) if x.dtype is torch.float32 and x.shape[2] >= 2 * x.shape[1] else _directly(x, steps)
    return [part.mT if _is_tall(stack) else part for part, stack in zip(x.split(sizes), stacks, strict=True)]


def _directly(x: Tensor, steps: int) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _by_gram(x: Tensor, steps: int) -> Tensor:
    """The same for wide matrices in a third less arithmetic: each step multiplies by a polynomial of x x^T, and what all of them
    are together is found from x x^T alone, [n, rows, rows]. The squares of small singular values take fp32.
    """
    a, b, c = COEFFICIENTS
    gram = x @ x.mT
    whole, rest = 1.0, None  # so far all steps multiply by whole * I + rest
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)  # and a * I
        rest = factor if rest is None else torch.baddbmm(whole * factor + a * rest, factor, rest)
        whole *= a
        if step < steps - 1:
            half = torch.baddbmm(gram, factor, gram, beta=a)
            gram = torch.baddbmm(half, half, factor, beta=a)  # all of these commute
    return torch.baddbmm(x, rest, x, beta=whole)


def _is_tall(stack: Tensor) -> bool:
    return stack.shape[1] > stack.shape[2]


def _wide(stack: Tensor) -> Tensor:
    return stack.mT if _is_tall(stack) else stack


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) on the hidden matrices; AdamW (arXiv 1711.05101) on embeddings, head and norm scales.

    Muon makes every update of a matrix orthogonal, so that all its directions learn at the same pace; an embedding is a
    table of independent rows, and there that makes no sense. This class only steps the two together. Learning rates live in `param_groups`, so any scheduler works.
    `pace` says by a weight's name how many times the common rate is its own; a group keeps it as "pace".
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        lr: float,
        matrix_lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.95),
        pace: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [(name, weight) for name, weight in trained if is_hidden_matrix(name, weight)]
        tables = [(name, weight) for name, weight in trained if weight.dim() >= 2 and not is_hidden_matrix(name, weight)]
        scales = [(name, weight) for name, weight in trained if weight.dim() < 2]
        decays = [(tables, weight_decay), (scales, 0.0)]
        self.muon = Muon(_by_pace(matrices, pace, lr=matrix_lr), lr=matrix_lr, weight_decay=weight_decay * 0.1)
        groups = [group for weights, decay in decays for group in _by_pace(weights, pace, lr=lr, weight_decay=decay)]
        self.adamw = torch.optim.AdamW(groups or [{"params": [], "pace": 1.0}], lr=lr, betas=betas, fused=True)
        super().__init__([{"params": [weight for _, weight in trained]}], {})
        self._share_groups()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update all weights once; a closure is not supported."""
        self.muon.step()
        self.adamw.step()

    def state_dict(self) -> dict[str, Any]:
        """Both optimizers' states."""
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """What `state_dict` gave."""
        self.muon.load_state_dict(state_dict["muon"])
        self.adamw.load_state_dict(state_dict["adamw"])
        self._share_groups()

    def _share_groups(self) -> None:
        # The very same dicts: a scheduler that writes "lr" here writes it where it is read.
        self.param_groups = [*self.muon.param_groups, *self.adamw.param_groups]


def _by_pace(weights: list[tuple[str, Tensor]], pace: Callable[[str], float], lr: float, **options: float) -> list[dict[str, Any]]:
    """A group for each pace, its rate the common one times that."""
    paces = dict.fromkeys(pace(name) for name, _ in weights)
    groups = [{"params": [weight for name, weight in weights if pace(name) == one], "pace": one, "lr": lr * one} for one in paces]
    return [group | options for group in groups]


def is_hidden_matrix(name: str, weight: Tensor) -> bool:
    """True for the projections inside the blocks; False for embeddings, the head and everything that is not a matrix."""
    return weight.dim() == 2 and "embed" not in name and "lm_head" not in name and "score" not in name
