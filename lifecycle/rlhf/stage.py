"""The stage as a whole: preferences teach a reward model and, by DPO, the model itself; GRPO then optimises what can be verified."""

from __future__ import annotations

from datasets import Dataset

from lifecycle.registry import DataRef, ModelRegistry, ModelVersion
from lifecycle.rlhf.config import RLHFConfig

PARENTS = ("sft", "rlhf", "rlhf-dpo", "import")


def run(
    config: RLHFConfig,
    registry: ModelRegistry,
    *,
    parent: ModelVersion,
    pairs: Dataset,
    pairs_data: DataRef,
    tasks: Dataset,
    tasks_data: DataRef,
    preset: str | None = None,
) -> ModelVersion:
    """Publish "rlhf-reward/N", "rlhf-dpo/N" and "rlhf/N", and return the last.

    `pairs` has conversational columns "prompt", "chosen" and "rejected"; `tasks` has "prompt" and "check" (JSON text).
    Parts that are registered already are not repeated. Raises LifecycleError for a parent of the wrong stage.
    """
    from lifecycle import trainers
    from lifecycle.rlhf import dpo, grpo, reward

    trainers.require_stage(parent, "rlhf", PARENTS)
    judge = reward.run(config, registry, parent=parent, pairs=pairs, data=pairs_data, preset=preset)
    policy = parent
    if config.dpo_steps:
        policy = dpo.run(config, registry, parent=parent, pairs=pairs, data=pairs_data, preset=preset)
    if config.grpo_steps:
        policy = grpo.run(
            config, registry, parent=policy, reward_model=judge, tasks=tasks, data=tasks_data, preset=preset
        )
    return policy
