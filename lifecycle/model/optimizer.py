"""Muon for the matrices, AdamW for the rest, as one optimizer that every loop and trainer can drive."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al., 2024) on the hidden matrices; AdamW (arXiv 1711.05101) on embeddings, head and norm scales.

    Muon makes every update of a matrix orthogonal, so that all its directions learn at the same pace; an embedding is a
    table of independent rows, and there that makes no sense. Both come from `torch.optim`; this class only steps them
    together. Learning rates live in `param_groups`, so any scheduler works.
    """

    def __init__(
        self, model: nn.Module, *, lr: float, matrix_lr: float, weight_decay: float = 0.0, betas: tuple[float, float] = (0.9, 0.95)
    ) -> None:
        trained = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [weight for name, weight in trained if is_hidden_matrix(name, weight)]
        tables = [weight for name, weight in trained if weight.dim() >= 2 and not is_hidden_matrix(name, weight)]
        scales = [weight for _, weight in trained if weight.dim() < 2]
        decays = [(tables, weight_decay), (scales, 0.0)]
        self.muon = torch.optim.Muon(matrices, lr=matrix_lr, momentum=0.95, nesterov=True, weight_decay=weight_decay * 0.1)
        self.adamw = torch.optim.AdamW(
            [{"params": weights, "weight_decay": decay} for weights, decay in decays if weights], lr=lr, betas=betas, fused=True
        )
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


def is_hidden_matrix(name: str, weight: torch.Tensor) -> bool:
    """True for the projections inside the blocks; False for embeddings, the head and everything that is not a matrix."""
    return weight.dim() == 2 and "embed" not in name and "lm_head" not in name and "score" not in name
