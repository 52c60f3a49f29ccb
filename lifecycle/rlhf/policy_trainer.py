"""TRL's trainer of a policy, its answers sampled by a `RolloutEngine` instead of its own generate."""

from __future__ import annotations

from typing import Any

import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from lifecycle.adapters import checkpoint_weights
from lifecycle.rlhf.rehearsal import Rehearsal
from lifecycle.rlhf.rollouts import Rollout, RolloutEngine


class _Rollouts:
    """Before a class of TRL: what it calls to get answers, and what is learnt beside them. The engine has this very step's weights.

    It replaces a private method, as not all of TRL's trainers have its experimental `rollout_func`.
    """

    def __init__(self, *args: Any, engine: RolloutEngine, rehearsal: Rehearsal | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._engine = engine
        self._rehearsal = rehearsal

    def compute_loss(self, model: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss = super().compute_loss(model, *args, **kwargs)
        if self._rehearsal is None or not self.model.training:
            return loss
        with self.accelerator.autocast():
            rehearsed = self._rehearsal.loss(self.accelerator.unwrap_model(model), self.state.global_step)
        self._metrics["train"]["rehearsal"].append(rehearsed.item())
        return loss + rehearsed

    def _sample(self, prompt_ids: list[list[int]]) -> list[Rollout]:
        with torch.no_grad():
            self._engine.update_weights(checkpoint_weights(self.accelerator.unwrap_model(self.model)))
        return self._engine.sample(
            prompt_ids,
            max_tokens=self.args.max_completion_length,
            temperature=self.args.temperature,
            stop=[self.processing_class.eos_token_id],
            seed=self.args.seed * 1_000_003 + self.state.global_step,
        )


class GroupRelative(_Rollouts, GRPOTrainer):
    """GRPO (Shao et al., 2024): an answer is as good as it beats the mean of its group."""

    def _generate_single_turn(self, prompt_ids, *_args, **_kwargs):
        told = self._sample(prompt_ids)
        return [one.tokens for one in told], [one.logprobs for one in told]


class LeaveOneOut(_Rollouts, RLOOTrainer):
    """RLOO (Ahmadian et al., 2024): an answer is as good as it beats the mean of the others, the KL divergence in its reward."""

    def _generate_single_turn(self, prompt_ids, *_args, **_kwargs):
        return [one.tokens for one in self._sample(prompt_ids)]


ALGORITHMS = {"grpo": (GroupRelative, GRPOConfig), "rloo": (LeaveOneOut, RLOOConfig)}
"""By the names of `RLHFConfig.algorithm`."""
